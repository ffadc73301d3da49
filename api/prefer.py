"""Reading the two headers that carry a time: `Prefer: wait` and `Cancel-After`."""

from __future__ import annotations

import re

from api.errors import InvalidInput

MAX_WAIT_S = 60
MIN_CANCEL_AFTER_S = 5

DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)


def wait_s(prefer: str | None) -> int | None:
    """The seconds of `Prefer: wait[=1..60]`, or None where it does not ask to wait.

    Unknown preferences are ignored, as RFC 7240 wants it; a wait outside the range is an error.
    """
    for preference in (prefer or "").split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        if name.strip().lower() != "wait":
            continue
        value = value.strip().strip('"')
        if not value:
            return MAX_WAIT_S
        if not (value.isascii() and value.isdigit() and len(value) <= 3 and 1 <= int(value) <= MAX_WAIT_S):
            raise InvalidInput("Prefer", f"wait={value[:20]!r} is not a number of seconds from 1 to {MAX_WAIT_S}")
        return int(value)
    return None


def cancel_after_s(header: str | None) -> float | None:
    """The seconds of `Cancel-After: 30 | 90s | 1h30m45s`, or None without the header."""
    if header is None:
        return None
    text = header.strip()
    if text.isascii() and text.isdigit() and len(text) <= 8:
        seconds = int(text)
    elif text and (match := DURATION.fullmatch(text)):
        hours, minutes, rest = (int(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + rest
    else:
        raise InvalidInput("Cancel-After", f"{text[:40]!r} is not a duration such as 30, 90s or 1h30m45s")
    if seconds < MIN_CANCEL_AFTER_S:
        raise InvalidInput("Cancel-After", f"{seconds} s is below the least, which is {MIN_CANCEL_AFTER_S} s")
    return float(seconds)
