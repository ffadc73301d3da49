"""The GPU workers: who runs, how much work waits for them, and what a step costs."""
