"""Factors and a user to a ranked list, in NumPy alone."""
