"""Hours of the catalog: by the clock on the wall of their time zone, also where summer time begins and ends."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storage.hours import DAYS, Hours

OFFICE = Hours.parse("Mon-Fri 08:00-18:00 Europe/Berlin")
NIGHT = Hours.parse("Fri 22:00-06:00 Europe/Berlin")


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-01-05 06:59:59", False),  # a Monday in winter: 07:59:59 in Berlin
        ("2026-01-05 07:00", True),
        ("2026-01-05 16:59:59", True),
        ("2026-01-05 17:00", False),
        ("2026-07-06 05:59", False),  # in summer, two hours before UTC
        ("2026-07-06 06:00", True),
        ("2026-07-06 16:00", False),
        ("2026-01-10 12:00", False),  # a Saturday
    ],
)
def test_office_hours_follow_the_clock_of_their_zone_in_winter_and_in_summer(moment: str, expected: bool) -> None:
    assert OFFICE.include(utc(moment)) is expected


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-01-09 20:59", False),  # Friday, 21:59 in Berlin
        ("2026-01-09 21:00", True),
        ("2026-01-10 04:59", True),  # Saturday
        ("2026-01-10 05:00", False),
        ("2026-01-10 21:30", False),  # Saturday night is not Friday's
        ("2026-01-09 04:00", False),  # nor is Thursday's
    ],
)
def test_hours_over_midnight_belong_to_the_day_on_which_they_begin(moment: str, expected: bool) -> None:
    assert NIGHT.include(utc(moment)) is expected


def minutes_of(hours: Hours, day: str) -> int:
    """How many minutes of these 36 hours, from noon of the day before on, are in the hours."""
    begin = utc(day) - timedelta(hours=12)
    return sum(hours.include(begin + timedelta(minutes=number)) for number in range(36 * 60))


def test_on_the_day_when_summer_time_begins_or_ends_they_are_an_hour_shorter_or_longer() -> None:
    sunday = Hours.parse("Sun 01:00-05:00 Europe/Berlin")
    assert minutes_of(sunday, "2026-01-04") == 4 * 60
    assert minutes_of(sunday, "2026-03-29") == 3 * 60
    assert minutes_of(sunday, "2026-10-25") == 5 * 60


def test_days_may_be_listed_and_go_over_the_end_of_the_week() -> None:
    def days(text: str) -> set[str]:
        return {DAYS[day] for day in Hours.parse(f"{text} 00:00-24:00 UTC").days}

    assert days("Sat,Sun") == {"sat", "sun"}
    assert days("fri-MON") == {"fri", "sat", "sun", "mon"}
    assert days("Mon,Wed-Thu") == {"mon", "wed", "thu"}
    assert days("Mon-Sun") == set(DAYS)


@given(minutes=st.integers(0, 20 * 366 * 24 * 60))
def test_two_halves_of_the_day_are_the_whole_of_it_at_every_moment(minutes: int) -> None:
    moment = utc("2020-01-01") + timedelta(minutes=minutes)
    day, night = (Hours.parse(f"Mon-Sun {hours} America/New_York") for hours in ("07:30-19:00", "19:00-07:30"))
    assert day.include(moment) is not night.include(moment)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Mon-Fri 08:00-18:00", "no hours such as"),
        ("08:00-18:00 UTC", "no hours such as"),
        ("Mon-Fri 8:00-18:00 UTC", "no hours such as"),
        ("Mo-Fr 08:00-18:00 UTC", "no days such as"),
        ("Mon- 08:00-18:00 UTC", "no days such as"),
        ("Mon-Fri 08:00-24:30 UTC", "from 00:00 to 24:00"),
        ("Mon-Fri 08:61-18:00 UTC", "from 00:00 to 24:00"),
        ("Mon-Fri 08:00-08:00 UTC", "from 00:00 to 24:00"),
        ("Mon-Fri 08:00-18:00 Berlin", "no time zone 'Berlin'"),
        ("Mon-Fri 08:00-18:00 ../etc/passwd", "no time zone"),
    ],
)
def test_what_can_not_be_read_is_refused_with_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Hours.parse(text)
