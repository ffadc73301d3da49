"""Reading the header `Idempotency-Key`, and what two requests under one key must have in common."""

from __future__ import annotations

from flask import request

from api.errors import InvalidInput
from api.parsing.json_body import read_object
from storage.predictions.repeats.idempotency import hash_of

MAX_CHARS = 255


def idempotency_key(header: str | None) -> str | None:
    """The key, or None without the header. Raises InvalidInput."""
    if header is None:
        return None
    key = header.strip()
    if not 1 <= len(key) <= MAX_CHARS or not (key.isascii() and key.isprintable()):
        raise InvalidInput("Idempotency-Key", f"needs 1 to {MAX_CHARS} printable ASCII characters")
    return key


def hash_of_request() -> str:
    """Of the route, the same with and without /v1, and of the JSON object that was read from this request."""
    return hash_of(request.path.removeprefix("/v1"), read_object())
