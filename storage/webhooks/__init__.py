"""Webhooks: their events, the outbox and its history, and which targets the settings allow."""
