"""Reading the headers that carry a time: `Prefer: wait`, `Prefer: warm` and `Cancel-After`."""

from __future__ import annotations

import re

from api.errors import InvalidInput

MAX_WAIT_S = 60
MIN_CANCEL_AFTER_S = 5
WARM_S = 300
MAX_WARM_S = 3600

# RFC 7240 and RFC 9110: `Prefer: a, b=1; parameter=2, c="a, b"`.
WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
QUOTED = r'"(?:[^"\\]|\\.)*"'
# One preference with its parameters; a quotation that is never closed goes on to the end.
ITEM = re.compile(r'(?:[^",]|"(?:[^"\\]|\\.)*"?)+', re.DOTALL)
PREFERENCE = re.compile(rf"\s*({WORD})(?:\s*=\s*({WORD}|{QUOTED})?)?\s*(?:;|$)", re.ASCII | re.DOTALL)
SECONDS = re.compile(r"([0-9]+)(?:\.[0-9]*)?")

DURATION = re.compile(r"(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,8})s)?", re.ASCII)


def wait_s(prefer: str | None) -> int | None:
    """The seconds to wait by `Prefer: wait[=seconds]`, or None if the header doesn't ask to wait.

    A preference is a wish (RFC 7240), so no value of it is an error: a longer wait is shortened to 60 s, fractions
    are rounded down, and a value that is no time (or less than a second) is ignored. If `wait` is there twice, the
    first one counts. A WSGI server joins several `Prefer` headers into one, with commas.
    """
    return _preferred_s(prefer, "wait", usual=MAX_WAIT_S, at_most=MAX_WAIT_S)


def warm_s(prefer: str | None) -> int | None:
    """For how many seconds the model is to stay ready by `Prefer: warm[=seconds]`, by the same rules."""
    return _preferred_s(prefer, "warm", usual=WARM_S, at_most=MAX_WARM_S)


def _preferred_s(prefer: str | None, name: str, *, usual: int, at_most: int) -> int | None:
    for item in ITEM.findall(prefer or ""):
        preference = PREFERENCE.match(item)
        if preference is not None and preference[1].lower() == name:
            return _seconds_of(preference[2] or "", usual=usual, at_most=at_most)
    return None


def _seconds_of(value: str, *, usual: int, at_most: int) -> int | None:
    if value.startswith('"'):
        value = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
    if not value:  # RFC 7240: an empty value is the same as none
        return usual
    number = SECONDS.fullmatch(value)
    if number is None:
        return None
    digits = number[1].lstrip("0")
    seconds = at_most if len(digits) > len(str(at_most)) else min(int(digits or 0), at_most)
    return seconds or None


def cancel_after_s(header: str | None) -> float | None:
    """The seconds of `Cancel-After: 30 | 90s | 1h30m45s`, or None without the header.

    It is no preference: a deadline that can't be read is refused, or the prediction would run on without it.
    """
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
