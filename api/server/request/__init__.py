"""What a client sends: its bytes become the head and the body of a request."""
