"""Requests to URLs that a stranger wrote."""
