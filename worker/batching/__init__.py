"""The drawing loop: which requests share a step on the device."""
