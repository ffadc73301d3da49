"""Predictions: the routes, and the one door through which every request to draw goes (`accept`)."""
