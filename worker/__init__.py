"""The GPU worker: claims predictions, draws them, and publishes the images."""
