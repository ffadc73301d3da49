"""The device that an engine draws on: which one, its memory, its errors, copies from it, standby."""
