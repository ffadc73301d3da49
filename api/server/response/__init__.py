"""What a client gets: responses of the application, and answers that the server gives by itself."""
