"""Attempts: one is the work on a claim, from its inputs to its end."""
