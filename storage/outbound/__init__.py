"""Requests to URLs that a stranger wrote: which addresses they may go to, and how they are sent."""
