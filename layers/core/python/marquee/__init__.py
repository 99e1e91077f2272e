"""Marquee: the recommender's own code, Lambda's `core` layer and the package that development imports."""
