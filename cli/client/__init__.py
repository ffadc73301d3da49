"""The commands that draw and look, against any Darkroom: over HTTP, as every other client."""
