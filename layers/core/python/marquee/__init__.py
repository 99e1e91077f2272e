"""Marquee: the recommender's own code, the `core` layer on Lambda and the package that development imports."""
