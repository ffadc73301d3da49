"""Webhooks: the outbox, its history, and where a webhook may be sent."""
