"""From a catalog entry to an engine that can draw: the weights are found, read, and set up on the device."""
