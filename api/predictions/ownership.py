"""Finds a prediction for its owner. All other callers get the same 404 as for a prediction that doesn't exist."""

from __future__ import annotations

from ulid import ULID

from api.auth import caller
from api.errors import NotFound
from storage.postgres.database import Connection, Row
from storage.predictions.read import read_prediction


def find_own(conn: Connection, prediction_id: str) -> Row:
    """The prediction, if it belongs to the caller. Raises the same NotFound for a missing one and another caller's."""
    row = read_prediction(conn, prediction_id) if is_id(prediction_id) else None
    if row is None or not caller().owns(row):
        raise NotFound(f"there is no prediction {prediction_id[:60]!r}")
    return row


def is_id(text: str) -> bool:
    """Whether it has the form of a prediction's id: a ULID in lower case."""
    try:
        return str(ULID.from_str(text.upper())).lower() == text
    except ValueError:
        return False
