"""Reading headers, bodies and query strings."""
