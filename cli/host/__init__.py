"""The workers of one machine: the warm parent that they are forked from, and `darkroom host`."""
