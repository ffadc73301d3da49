"""What `darkroom up` runs: the servers, the API, the courier, and the workers of this machine."""
