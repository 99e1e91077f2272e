"""Everything that stands around the functions."""
