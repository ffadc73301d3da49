"""The drawing loop: which requests share a step on the device. Start reading in scheduler.py."""
