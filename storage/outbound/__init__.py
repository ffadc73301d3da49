"""Requests to URLs that clients chose: which addresses they may go to, and how they are sent."""
