"""Hours of the week in a time zone, as the catalog writes them: `Mon-Fri 08:00-18:00 Europe/Berlin`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")  # in the order of datetime.weekday()
EXAMPLE = "Mon-Fri 08:00-18:00 Europe/Berlin"
SHAPE = re.compile(r"(\S+)\s+(\d\d):(\d\d)-(\d\d):(\d\d)\s+(\S+)", re.ASCII)
DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Hours:
    """From `begins` to `ends` by the clock on the wall of `zone`, on `days`. Where summer time begins or ends in them,
    they are an hour shorter or longer."""

    days: frozenset[int]
    begins: int  # minutes since midnight
    ends: int  # if that is not after `begins`: of the next day
    zone: ZoneInfo

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Raises ValueError, whose message says what is wrong."""
        match = SHAPE.fullmatch(text.strip())
        if match is None:
            raise ValueError(f'{text!r} are no hours such as "{EXAMPLE}"')
        begins, ends = _minutes(match[2], match[3]), _minutes(match[4], match[5])
        if begins >= DAY_MINUTES or ends > DAY_MINUTES or begins == ends:
            raise ValueError(f"{text!r}: the hours go from 00:00 to 24:00, and end later than they begin")
        try:
            zone = ZoneInfo(match[6])
        except (LookupError, ValueError, OSError):
            raise ValueError(f"{text!r}: there is no time zone {match[6]!r}; one is Europe/Berlin") from None
        return cls(_days(match[1], text), begins, ends, zone)

    def include(self, moment: datetime) -> bool:
        """Whether the moment, which has a time zone of its own, is in these hours."""
        there = moment.astimezone(self.zone)
        minutes, today = 60 * there.hour + there.minute, there.weekday()
        if self.begins < self.ends:
            return today in self.days and self.begins <= minutes < self.ends
        yesterday = (today - 1) % 7
        return (today in self.days and minutes >= self.begins) or (yesterday in self.days and minutes < self.ends)


def _minutes(hours: str, minutes: str) -> int:
    """More than a day for what is no time."""
    return 60 * int(hours) + int(minutes) if int(minutes) < 60 else 2 * DAY_MINUTES


def _days(text: str, whole: str) -> frozenset[int]:
    found: set[int] = set()
    for part in text.lower().split(","):
        first, *rest = part.split("-", maxsplit=1)
        last = rest[0] if rest else first
        if first not in DAYS or last not in DAYS:
            raise ValueError(f"{whole!r}: {text!r} are no days such as Mon-Fri or Sat,Sun")
        begin, end = DAYS.index(first), DAYS.index(last)
        found.update((begin + number) % 7 for number in range((end - begin) % 7 + 1))
    return frozenset(found)
