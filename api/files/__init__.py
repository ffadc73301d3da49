"""Images by signed URL."""
