from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from courier.schedule import delay_before_next_attempt, retry_after

SCHEDULE_S = (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def test_the_schedule_has_as_many_attempts_as_delays() -> None:
    delays = [delay_before_next_attempt(made, SCHEDULE_S, jitter=0) for made in range(1, 11)]
    assert delays == [*SCHEDULE_S[1:], None]


@given(made=st.integers(1, 9))
def test_the_jitter_stays_within_a_fifth(made: int) -> None:
    delay = delay_before_next_attempt(made, SCHEDULE_S)
    assert delay is not None
    assert 0.8 * SCHEDULE_S[made] <= delay <= 1.2 * SCHEDULE_S[made]


def test_receivers_that_failed_together_are_not_called_together() -> None:
    assert len({delay_before_next_attempt(2, SCHEDULE_S) for _ in range(50)}) > 10


@given(made=st.integers(1, 9), asked_s=st.floats(0, 1e9))
def test_retry_after_moves_an_attempt_by_one_base_delay_at_most(made: int, asked_s: float) -> None:
    delay = delay_before_next_attempt(made, SCHEDULE_S, retry_after_s=asked_s)
    assert delay is not None
    assert SCHEDULE_S[made] <= delay <= 2 * SCHEDULE_S[made]


def test_retry_after_adds_no_attempt() -> None:
    assert delay_before_next_attempt(10, SCHEDULE_S, retry_after_s=1) is None


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        ("120", 120),
        (" 0 ", 0),
        (format_datetime(NOW + timedelta(minutes=2), usegmt=True), 120),
        (format_datetime(NOW - timedelta(minutes=2), usegmt=True), 0),
        ("Fri, 02 Jan 2026 03:05:05 -0000", 60),
        ("9" * 500, 999_999_999),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(value: str, expected_s: float) -> None:
    assert retry_after({"retry-after": value}, NOW) == expected_s


@pytest.mark.parametrize(
    "value", ["", "soon", "-1", "1.5", "٣", "Fri, 99 Jan 2026 00:00:00 GMT", "Mon, 1 Jan 9" + "9" * 30]
)
def test_a_retry_after_that_cannot_be_read_is_as_none(value: str) -> None:
    assert retry_after({"retry-after": value}, NOW) is None


def test_no_header_is_no_wish() -> None:
    assert retry_after({}, NOW) is None


@given(value=st.text(st.characters(codec="latin-1")))
def test_no_retry_after_breaks_the_courier(value: str) -> None:
    assert (retry_after({"retry-after": value}, NOW) or 0) >= 0
