"""The queue as an estimate sees it: places, workers, and how long things took."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

from storage.postgres.database import Connection
from storage.predictions.finish import finish
from storage.predictions.render import Wire
from storage.workers.queue_state import ASSUMED_DRAW_S, ASSUMED_LOAD_S, QueueState, read_queue_state
from storage.workers.registry import WorkerRow, say_alive
from tests.making import MODEL, claim_one, submit_one, succeeded

EMPTY = QueueState(
    waiting={},
    drawing=0,
    ready_workers=0,
    loading_for_s=None,
    failed_workers=0,
    draw_s=2.0,
    load_s=10.0,
    read_at=datetime.now(UTC),
)


def test_places_follow_the_order_of_claims(conn: Connection, wire: Wire) -> None:
    first, second = submit_one(conn), submit_one(conn)
    urgent = submit_one(conn, priority=5)
    state = read_queue_state(conn, MODEL)
    assert [state.place_of(row["id"]) for row in (urgent, first, second)] == [0, 1, 2]
    claimed = claim_one(conn, wire)
    assert claimed is not None
    state = read_queue_state(conn, MODEL)
    assert state.place_of(claimed.prediction_id) is None
    assert state.place_of(first["id"]) == 0
    assert state.drawing == 1


def test_a_model_that_nobody_serves_has_a_cold_start_ahead(conn: Connection) -> None:
    state = read_queue_state(conn, MODEL)
    assert (state.ready_workers, state.is_loading) == (0, False)
    assert (state.draw_s, state.load_s) == (ASSUMED_DRAW_S, ASSUMED_LOAD_S)
    assert state.seconds_until_start(0) == ASSUMED_LOAD_S


def test_workers_are_counted_by_what_they_do(conn: Connection) -> None:
    worker = WorkerRow(id=uuid4(), hostname="here", pid=1, model=MODEL, state="loading")
    say_alive(conn, worker)
    state = read_queue_state(conn, MODEL)
    assert state.is_loading
    assert state.loading_for_s is not None
    assert 0 < state.seconds_until_start(0) <= ASSUMED_LOAD_S
    say_alive(conn, replace(worker, state="idle"))
    state = read_queue_state(conn, MODEL)
    assert (state.ready_workers, state.is_loading) == (1, False)
    assert state.seconds_until_start(0) == 0


def test_what_was_drawn_lately_says_how_long_it_takes(conn: Connection, wire: Wire) -> None:
    submit_one(conn)
    claimed = claim_one(conn, wire)
    assert claimed is not None
    finish(conn, wire, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
    conn.execute("""UPDATE predictions SET metrics = metrics || '{"predict_time": 3.5, "load_time": 12.0}'::jsonb""")
    state = read_queue_state(conn, MODEL)
    assert (state.draw_s, state.load_s) == (3.5, 12.0)
    conn.execute("""UPDATE predictions SET metrics = metrics || '{"cached": true}'::jsonb""")
    assert read_queue_state(conn, MODEL).draw_s == ASSUMED_DRAW_S  # an answer from the cache says nothing


def test_workers_share_the_queue() -> None:
    one = replace(EMPTY, ready_workers=1, drawing=1)
    two = replace(EMPTY, ready_workers=2, drawing=1)
    assert one.seconds_until_start(4) == 9.0
    assert two.seconds_until_start(4) == 4.5
    assert replace(EMPTY, loading_for_s=9.5).seconds_until_start(0) == 1.0  # it is about to be ready
