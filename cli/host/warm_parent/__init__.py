"""A process that has imported torch and diffusers already. Workers are forked from it in milliseconds."""
