"""The headers that carry a time: what clients send, and anything else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import InvalidInput
from api.parsing.prefer import cancel_after_s, wait_s, warm_s


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


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("wait=61", 60),
        ("wait=120", 60),
        ("wait=99999999999999999999", 60),
        ("wait=00000000000000000007", 7),
        ("wait=5.9", 5),
        ("wait=5.", 5),
        ('wait=""', 60),
        ("wait=", 60),
        ("wait;foo=1", 60),
        ('wait="1\\2"', 12),
        ("WAIT\t=\t3", 3),
    ],
)
def test_a_wait_is_read_as_far_as_it_can_be_granted(header: str, seconds: int) -> None:
    assert wait_s(header) == seconds


@pytest.mark.parametrize(
    "header",
    [
        "wait=0",
        "wait=0.5",
        "wait=-1",
        "wait=abc",
        "wait=9s",
        "wait=3 4",
        "wait=９",
        "wait=1e3",
        "foo; wait=9",
        "=9",
        ";",
    ],
)
def test_a_wait_that_means_nothing_is_ignored(header: str) -> None:
    assert wait_s(header) is None


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ('foo="a, wait=99"', None),
        ('foo="a, wait=99", wait=3', 3),
        ('foo="a\\", wait=99", wait=3', 3),
        ('foo; bar="x, wait=99", wait=3', 3),
        ('wait=3; bar="x, wait=99"', 3),
        ('foo="never closed, wait=99', None),
        (", ,wait=3,", 3),
        ("wait=3, wait=9", 3),
        ("wait=0, wait=9", None),
    ],
)
def test_commas_in_quotations_and_repeats_are_read_as_rfc_7240_says(header: str, seconds: int | None) -> None:
    assert wait_s(header) == seconds


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
def test_no_prefer_is_an_error(header: str) -> None:
    seconds = wait_s(header)
    assert seconds is None or 1 <= seconds <= 60


@given(st.text() | st.from_regex(r"([0-9]+h)?([0-9]+m)?([0-9]+s)?"))
def test_cancel_after_takes_or_refuses_any_text(header: str) -> None:
    try:
        seconds = cancel_after_s(header)
    except InvalidInput:
        return
    assert seconds is not None
    assert 5 <= seconds < 2**53


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("wait=5", None),
        ("warm", 300),
        ("wait=5, warm=60", 60),
        ("warm=86400", 3600),
        ("warm=soon", None),
        ("warm=0", None),
    ],
)
def test_prefer_says_how_long_a_model_is_to_stay_ready(header: str | None, seconds: int | None) -> None:
    assert warm_s(header) == seconds
