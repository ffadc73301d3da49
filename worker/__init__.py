"""What draws (the GPU worker) and what delivers (the courier)."""
