"""Which web pages may call the API: hosts, origins, CORS."""
