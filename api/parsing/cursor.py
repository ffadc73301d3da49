"""Where a page of the list begins: a position in a URL, which clients hand back as they got it."""

from __future__ import annotations

import base64
import binascii
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from api.errors import InvalidInput

# A time, a space where a + was, and the hours (and minutes) of its zone.
UNESCAPED_ZONE = re.compile(r"^(.*:\d\d(?:[.,]\d+)?) (\d\d(?::?\d\d)?)$", re.ASCII | re.DOTALL)

Direction = Literal["older", "newer"]


@dataclass(frozen=True)
class Cursor:
    """Read on in that direction from this prediction, which is not on the page itself."""

    direction: Direction
    created_at: datetime
    id: str

    @property
    def position(self) -> tuple[datetime, str]:
        return self.created_at, self.id

    def encode(self) -> str:
        fields = [self.direction, self.created_at.astimezone(UTC).isoformat(), self.id]
        return base64.urlsafe_b64encode(json.dumps(fields).encode()).decode().rstrip("=")


def decode_cursor(text: str) -> Cursor:
    """Raises InvalidInput for anything that `encode` did not write."""
    try:
        fields = json.loads(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
        direction, created_at, id_ = fields
        moment = datetime.fromisoformat(created_at)
        if direction not in ("older", "newer") or not isinstance(id_, str) or moment.tzinfo is None or "\0" in id_:
            raise ValueError
        moment.astimezone(UTC), id_.encode()
    except (ValueError, TypeError, OverflowError, RecursionError, binascii.Error):
        raise InvalidInput("cursor", "is not a cursor of this list; use `next` or `previous` as they are") from None
    return Cursor(direction, moment, id_)


def parse_moment(field: str, text: str) -> datetime:
    """An RFC 3339 time with its zone. Raises InvalidInput.

    In a query, `+` means a space. A client that writes `+02:00` without escaping it sends " 02:00", which is no other
    time, so it is read as it was meant.
    """
    try:
        moment = datetime.fromisoformat(UNESCAPED_ZONE.sub(r"\1+\2", text))
        if moment.tzinfo is None:
            raise ValueError
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(field, f"{text[:40]!r} is not a time such as 2026-01-31T09:30:00Z") from None
