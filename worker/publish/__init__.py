"""From images in memory to a finished prediction: encode, upload, commit."""
