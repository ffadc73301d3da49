"""Cursors: what `encode` wrote comes back, anything else is 422."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import InvalidInput
from api.parsing.cursor import Cursor, decode_cursor, parse_moment

MOMENTS = st.datetimes(timezones=st.just(UTC))
STORABLE = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))


@given(st.sampled_from(["older", "newer"]), MOMENTS, STORABLE)
def test_a_cursor_comes_back_as_it_was(direction: str, moment: datetime, id_: str) -> None:
    cursor = Cursor("older" if direction == "older" else "newer", moment, id_)
    assert decode_cursor(cursor.encode()) == cursor


def _encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=20), lambda inner: st.lists(inner, max_size=4)
)


@given(st.text() | JSON.map(_encoded))
def test_any_other_text_is_refused_and_breaks_nothing(text: str) -> None:
    try:
        cursor = decode_cursor(text)
    except InvalidInput:
        return
    assert cursor.created_at.tzinfo is not None


@pytest.mark.parametrize(
    "fields",
    [
        ["sideways", "2026-01-01T00:00:00+00:00", "x"],
        ["older", "2026-01-01T00:00:00", "x"],
        ["older", "0001-01-01T00:00:00+23:59", "x"],
        ["older", "2026-01-01T00:00:00+00:00", 1],
        ["older", "2026-01-01T00:00:00+00:00", "a\0b"],
        ["older"],
        {},
        None,
    ],
)
def test_a_forged_cursor_is_refused(fields: object) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        decode_cursor(_encoded(fields))


@given(st.text() | MOMENTS.map(datetime.isoformat))
def test_a_moment_is_read_or_refused(text: str) -> None:
    try:
        moment = parse_moment("created_after", text)
    except InvalidInput:
        return
    assert moment.tzinfo is UTC


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("2026-01-01T10:00:00 02:00", "2026-01-01T08:00:00+00:00"),
        ("2026-01-01T10:00:00.25 0200", "2026-01-01T08:00:00.250000+00:00"),
        ("2026-01-01T10:00 02", "2026-01-01T08:00:00+00:00"),
        ("2026-01-01 10:00:00 02:00", "2026-01-01T08:00:00+00:00"),
        ("2026-01-01T10:00:00+02:00", "2026-01-01T08:00:00+00:00"),
        ("2026-01-01T10:00:00-02:00", "2026-01-01T12:00:00+00:00"),
    ],
)
def test_a_plus_that_became_a_space_is_read_as_a_plus(text: str, meant: str) -> None:
    assert parse_moment("created_after", text).isoformat() == meant


@pytest.mark.parametrize(
    "text", ["2026-01-01 02:00", "2026-01-01T10:00:00", "2026-01-01T10:00:00  02:00", "02:00 02:00"]
)
def test_a_space_that_was_no_plus_makes_no_time_of_what_is_none(text: str) -> None:
    with pytest.raises(InvalidInput, match="created_after"):
        parse_moment("created_after", text)
