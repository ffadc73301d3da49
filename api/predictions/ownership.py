"""Finding a prediction for its owner; to everybody else it does not exist."""

from __future__ import annotations

from ulid import ULID

from api.auth import caller
from api.errors import NotFound
from storage.postgres.database import Connection, Row
from storage.predictions.read import read_prediction


def find_own(conn: Connection, prediction_id: str) -> Row:
    """The prediction, if it is the caller's. Raises NotFound, the same for what is not there and for others'."""
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
