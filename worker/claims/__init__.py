"""Listening for work, claiming it, and renewing the claims."""
