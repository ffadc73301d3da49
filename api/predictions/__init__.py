"""Predictions: the routes, and `accept`, which every request to draw goes through."""
