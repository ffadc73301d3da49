"""When the next attempt of a delivery comes, if one comes."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

# Receivers that failed together must not be called again together.
JITTER = 0.2

# A receiver may ask for more time, but not for a delivery to be forgotten: up to this many base delays.
MAX_RETRY_AFTER = 2.0


def delay_before_next_attempt(
    attempts_made: int,
    schedule_s: Sequence[float],
    *,
    retry_after_s: float | None = None,
    jitter: float | None = None,
) -> float | None:
    """Seconds until the next attempt, or None when the schedule has no more.

    `schedule_s` holds the delay before each attempt, the first included, so it is as long as there are attempts.
    The delay is the schedule's ±20 %, or what the receiver asked for, within one to two times the schedule's.
    `jitter` (-1 to 1) is drawn where it isn't given.
    """
    if attempts_made >= len(schedule_s):
        return None
    base_s = schedule_s[attempts_made]
    if retry_after_s is not None:
        return min(max(retry_after_s, base_s), MAX_RETRY_AFTER * base_s)
    if jitter is None:
        jitter = random.uniform(-1, 1)  # noqa: S311 (spreads load, guards nothing)
    return base_s * (1 + JITTER * jitter)


def retry_after(headers: Mapping[str, str], now: datetime) -> float | None:
    """The seconds of a Retry-After header, which holds a number or a date; None where it can't be read.

    `headers` has lower-case names.
    """
    value = headers.get("retry-after", "").strip()
    if value.isdecimal() and value.isascii():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - now).total_seconds())
