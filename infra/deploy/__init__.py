"""Layers, standing resources and Chalice: plan, then execute."""
