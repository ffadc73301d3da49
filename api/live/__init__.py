"""Live events of a prediction, as server-sent events and over WebSockets."""
