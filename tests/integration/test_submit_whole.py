"""Submit writes the prediction and its bell, or neither: whichever of the two fails."""

from __future__ import annotations

import psycopg
import pytest

from storage.postgres.database import Connection, connect
from storage.predictions.render import Renderer
from storage.settings import Settings
from tests.support.making import claim_one, count, submit_one


def test_a_prediction_that_can_not_be_written_rings_no_bell(conn: Connection) -> None:
    first = submit_one(conn)
    with pytest.raises(psycopg.errors.UniqueViolation):
        submit_one(conn, id=first["id"])
    assert count(conn, "procrastinate_jobs") == 1


def test_a_bell_that_can_not_be_rung_leaves_no_prediction(conn: Connection) -> None:
    with pytest.raises(psycopg.Error):
        submit_one(conn, queue_name="q" * 64)  # too long for the name of a channel
    assert count(conn, "predictions") == 0


def test_the_row_of_a_new_prediction_is_the_one_in_the_table(conn: Connection) -> None:
    found = submit_one(
        conn,
        token_id=3,
        idempotency_key="key",
        request_hash="hash",
        cache_key="cached",
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        metadata={"order": 5},
        logs="Using seed: 7\n",
        keep=True,
        priority=2,
    )
    assert found.pop("drawn_before") is False
    assert found == conn.execute("SELECT * FROM predictions").fetchone()


def read_of_bells(conn: Connection) -> int:
    """How many entries of their indexes were read, by anybody, since the database was made."""
    conn.execute("SELECT pg_stat_force_next_flush()")
    row = conn.execute(
        "SELECT sum(idx_tup_read)::int AS n FROM pg_stat_user_indexes WHERE relname = 'procrastinate_jobs'"
    ).fetchone()
    assert row is not None
    return int(row["n"])


def test_neither_a_submit_nor_a_claim_reads_all_that_waits(
    settings: Settings, conn: Connection, renderer: Renderer
) -> None:
    """Also where the connection is new, and Postgres knows nothing of the table but how large its file is."""
    for _ in range(300):
        submit_one(conn)
    with connect(settings.database_url, application_name="test") as new:
        for calls in (10, 10):  # the first ones plan
            before = read_of_bells(new)
            for _ in range(calls):
                submit_one(new)
                assert claim_one(new, renderer) is not None
            assert read_of_bells(new) - before < 300
