"""What operators ask for: health, metrics, and webhook deliveries."""
