"""The Range header: one range is served, nonsense and several ranges are the whole file."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.files.ranges import ByteRange, Unsatisfiable, parse_range


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, 9),
        ("bytes=4-7", 4, 7),
        ("BYTES= 4-7 ", 4, 7),
        ("bytes=4-99999999999999999999", 4, 9),
        ("bytes=-3", 7, 9),
        ("bytes=-11", 0, 9),
        ("bytes=9-", 9, 9),
    ],
)
def test_one_range_is_understood(header: str, first: int, last: int) -> None:
    assert parse_range(header, 10) == ByteRange(first, last)


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"])
def test_a_range_without_a_byte_of_the_file_is_unsatisfiable(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, 10)


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=-1", "bytes=0-0"])
def test_an_empty_file_has_no_range(header: str) -> None:
    with pytest.raises(Unsatisfiable):
        parse_range(header, 0)


@pytest.mark.parametrize(
    "header",
    [None, "", "bytes", "bytes=", "bytes=-", "bytes=0-1,3-4", "bytes=7-4", "lines=0-1", "bytes=a-b", "bytes=+1-2",
     "bytes=-1-2", "bytes=0x0-1", "bytes=\u0661-\u0662", "bytes=0-1;", f"bytes=0-{'9' * 5000}"],
)  # fmt: skip
def test_anything_else_is_the_whole_file(header: str | None) -> None:
    assert parse_range(header, 10) is None


@given(text=st.text(max_size=20), size=st.integers(min_value=0, max_value=20))
def test_a_range_is_always_within_the_file(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        try:
            found = parse_range(header, size)
        except Unsatisfiable:
            continue
        assert found is None or 0 <= found.first <= found.last < size
