"""Hearing of work, claiming it, and keeping the claims."""
