"""Durable state, and everything that the API and the workers share. Imports neither of them."""
