"""What a client gets: responses of the application, and the server's own error responses."""
