"""Reading the header `X-Darkroom-Priority`: what is higher is drawn first, as far as the token allows."""

from __future__ import annotations

import re

from api.errors import InvalidInput

LOWEST = -100
HIGHEST = 100
NUMBER = re.compile(r"-?[0-9]{1,3}", re.ASCII)


def priority(header: str | None, highest: int) -> int:
    """The priority, 0 without the header. Raises InvalidInput above `highest`, which is the token's."""
    if header is None:
        return 0
    text = header.strip()
    if not NUMBER.fullmatch(text) or not LOWEST <= int(text) <= highest:
        raise InvalidInput(
            "X-Darkroom-Priority", f"{text[:20]!r} is not a whole number from {LOWEST} to {highest}, the token's limit"
        )
    return int(text)
