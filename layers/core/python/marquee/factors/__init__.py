"""Factor models and what they are measured by."""
