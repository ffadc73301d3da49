"""What work waits, and how many workers it needs."""
