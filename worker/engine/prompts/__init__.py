"""Prompts on their way into a model: their length, guidance, and a cache of encoded ones."""
