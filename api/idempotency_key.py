"""Reading the header `Idempotency-Key`."""

from __future__ import annotations

from api.errors import InvalidInput

MAX_CHARS = 255


def idempotency_key(header: str | None) -> str | None:
    """The key, or None without the header. Raises InvalidInput."""
    if header is None:
        return None
    key = header.strip()
    if not 1 <= len(key) <= MAX_CHARS or not (key.isascii() and key.isprintable()):
        raise InvalidInput("Idempotency-Key", f"needs 1 to {MAX_CHARS} printable ASCII characters")
    return key
