"""Figures of the whole deployment, for operators and accounts."""
