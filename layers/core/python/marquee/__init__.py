"""Marquee: the recommender's own code, shipped to Lambda as the `core` layer and imported by development alike."""
