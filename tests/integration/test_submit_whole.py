"""Submit writes the prediction and its bell, or neither: whichever of the two fails."""

from __future__ import annotations

import psycopg
import pytest

from storage.postgres.database import Connection
from tests.support.making import count, submit_one


def test_a_prediction_that_can_not_be_written_rings_no_bell(conn: Connection) -> None:
    first = submit_one(conn)
    with pytest.raises(psycopg.errors.UniqueViolation):
        submit_one(conn, id=first["id"])
    assert count(conn, "procrastinate_jobs") == 1


def test_a_bell_that_can_not_be_rung_leaves_no_prediction(conn: Connection) -> None:
    with pytest.raises(psycopg.Error):
        submit_one(conn, queue_name="q" * 64)  # too long for the name of a channel
    assert count(conn, "predictions") == 0
