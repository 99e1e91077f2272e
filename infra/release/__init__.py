"""Versions, aliases, stages: which model gets which traffic."""
