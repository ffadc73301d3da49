"""Access tokens, signing secrets, and signed links."""
