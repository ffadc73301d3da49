"""Requests that were made before: idempotency keys, and results that are used again."""
