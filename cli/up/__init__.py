"""What `darkroom up` runs, and how it is started, watched and stopped."""
