"""How the API is served: gunicorn, its request threads, and client connections."""
