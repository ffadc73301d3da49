"""The headers that carry a time: what clients send, and anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import InvalidInput
from api.prefer import cancel_after_s, wait_s


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("respond-async", None),
        ("wait", 60),
        ("wait=5", 5),
        ('wait="5"', 5),
        ("Wait = 60", 60),
        ("respond-async, wait=7; foo", 7),
        ("waiting=3", None),
    ],
)
def test_prefer_says_how_long_to_wait(header: str | None, seconds: int | None) -> None:
    assert wait_s(header) == seconds


@pytest.mark.parametrize("header", ["wait=0", "wait=61", "wait=-1", "wait=1.5", "wait=abc", "wait=９", "wait=9999999"])
def test_a_wait_that_is_out_of_range_is_refused_by_name(header: str) -> None:
    with pytest.raises(InvalidInput, match=r"Prefer: wait=.*1 to 60"):
        wait_s(header)


@pytest.mark.parametrize(
    ("header", "seconds"), [(None, None), ("30", 30), ("90s", 90), ("1h30m45s", 5445), ("2h", 7200), (" 5 ", 5)]
)
def test_cancel_after_is_a_duration(header: str | None, seconds: float | None) -> None:
    assert cancel_after_s(header) == seconds


@pytest.mark.parametrize("header", ["", "4", "0h", "soon", "1m1h", "-30", "1.5h", "３０", "99999999999999999999s"])
def test_a_wrong_cancel_after_is_refused_by_name(header: str) -> None:
    with pytest.raises(InvalidInput, match="Cancel-After"):
        cancel_after_s(header)


@given(st.text() | st.from_regex(r"(wait|respond-async)(=\"?[0-9 .+-]*\"?)?(,.*)?"))
def test_prefer_takes_or_refuses_any_text(header: str) -> None:
    try:
        seconds = wait_s(header)
    except InvalidInput:
        return
    assert seconds is None or 1 <= seconds <= 60


@given(st.text() | st.from_regex(r"([0-9]+h)?([0-9]+m)?([0-9]+s)?"))
def test_cancel_after_takes_or_refuses_any_text(header: str) -> None:
    try:
        seconds = cancel_after_s(header)
    except InvalidInput:
        return
    assert seconds is not None
    assert 5 <= seconds < 2**53
