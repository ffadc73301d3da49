"""The queue as an estimate sees it: places, workers, and what was measured."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from storage.postgres.database import Connection
from storage.predictions.parameters import Parameters
from storage.predictions.render import Renderer
from storage.workers.load_times import read_load_times, write_load_time
from storage.workers.queue_state import FORESEEN, QueueState, read_queue_state
from storage.workers.registry import WorkerRow, say_alive
from storage.workers.step_costs import StepCost, write_step_costs
from tests.support.making import MODEL, claim_one, submit_one

DEVICE = "a test's device"
WORKER = WorkerRow(id=uuid4(), hostname="here", pid=1, model=MODEL, state="loading")
PARAMETERS = Parameters(prompt="a", width=64, height=64, num_inference_steps=10, guidance_scale=0.0, seed=1)


def state_of(conn: Connection) -> QueueState:
    return read_queue_state(conn, MODEL, version="1", max_images=1)


def measure_load(conn: Connection, *, load_s: float, boot_s: float, version: str = "1") -> None:
    """As a worker does that has just loaded, and then leaves."""
    worker = replace(WORKER, id=uuid4())
    say_alive(conn, worker)
    conn.execute(
        "UPDATE workers SET started_at = clock_timestamp() - make_interval(secs => %s) WHERE id = %s",
        (load_s, worker.id),
    )
    write_load_time(conn, worker.id, device=DEVICE, version=version, since_start_s=boot_s + load_s, joins_midway=True)
    conn.execute("DELETE FROM workers WHERE id = %s", (worker.id,))


def measure_step(conn: Connection, seconds: float) -> None:
    write_step_costs(conn, [StepCost(1, 64 * 64, seconds, None, 10)], device=DEVICE, model=MODEL, version="1")


def submit_many(conn: Connection, *several: Parameters) -> Iterable[str]:
    return [submit_one(conn, webhook=None, parameters=each.to_json())["id"] for each in several]


def test_places_follow_the_order_of_claims(conn: Connection, renderer: Renderer) -> None:
    first, second = submit_one(conn), submit_one(conn)
    urgent = submit_one(conn, priority=5)
    state = state_of(conn)
    assert [state.place_of(row["id"]) for row in (urgent, first, second)] == [0, 1, 2]
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    state = state_of(conn)
    assert state.place_of(claimed.prediction_id) is None
    assert state.place_of(first["id"]) == 0
    assert state.drawing == 1


def test_what_was_not_measured_is_told_by_no_number(conn: Connection) -> None:
    submit_one(conn)
    assert state_of(conn).seconds_until_start(0) is None
    measure_load(conn, load_s=20, boot_s=5, version="another")
    assert state_of(conn).seconds_until_start(0) is None
    say_alive(conn, WORKER)
    state = state_of(conn)
    assert state.is_loading
    assert state.seconds_until_start(0) is None


def test_a_cold_start_counts_with_the_time_that_the_last_ones_took(conn: Connection) -> None:
    submit_many(conn, PARAMETERS, PARAMETERS)
    measure_load(conn, load_s=20, boot_s=5)
    measure_step(conn, 0.5)
    state = state_of(conn)
    assert (state.ready_workers, state.is_loading) == (0, False)
    assert state.seconds_until_start(0) == pytest.approx(25, abs=0.5)
    assert state.seconds_until_start(1) == pytest.approx(30, abs=0.5)
    measure_load(conn, load_s=10, boot_s=5)  # the mean of both
    assert state_of(conn).seconds_until_start(0) == pytest.approx(20, abs=0.5)
    [known] = read_load_times(conn, model=MODEL, version="1")
    assert (known.device, known.joins_midway) == (DEVICE, True)


def test_of_a_worker_that_loads_only_the_rest_counts(conn: Connection) -> None:
    submit_one(conn)
    measure_load(conn, load_s=20, boot_s=5)
    say_alive(conn, WORKER)
    conn.execute("UPDATE workers SET started_at = clock_timestamp() - interval '12 s'")
    assert state_of(conn).seconds_until_start(0) == pytest.approx(8, abs=0.5)
    conn.execute("UPDATE workers SET started_at = clock_timestamp() - interval '60 s'")
    assert state_of(conn).seconds_until_start(0) == 1.0  # it is about to be ready
    say_alive(conn, replace(WORKER, state="idle", device=DEVICE))
    state = state_of(conn)
    assert (state.ready_workers, state.is_loading) == (1, False)
    assert state.seconds_until_start(0) == 0


def test_what_is_drawn_counts_with_its_steps_and_those_that_are_left(conn: Connection, renderer: Renderer) -> None:
    measure_step(conn, 0.5)
    say_alive(conn, replace(WORKER, state="drawing", device=DEVICE))
    submit_many(conn, replace(PARAMETERS, num_inference_steps=50, num_outputs=4), PARAMETERS, PARAMETERS)
    assert claim_one(conn, renderer) is not None
    conn.execute("UPDATE predictions SET worker_id = %s WHERE status = 'processing'", (WORKER.id,))
    state = state_of(conn)
    assert state.seconds_until_start(0) == pytest.approx(50 * 4 * 0.5)
    assert state.seconds_until_start(1) == pytest.approx(50 * 4 * 0.5 + 5)
    conn.execute("UPDATE predictions SET logs = ' 80%%|########  | 40/50' WHERE status = 'processing'")
    assert state_of(conn).seconds_until_start(0) == pytest.approx(10 * 4 * 0.5)


def test_the_pace_of_the_first_places_holds_for_those_further_back(conn: Connection) -> None:
    measure_step(conn, 0.1)
    say_alive(conn, replace(WORKER, state="idle", device=DEVICE))
    submit_many(conn, *[PARAMETERS] * (FORESEEN + 50))
    state = state_of(conn)
    assert state.seconds_until_start(FORESEEN - 1) == pytest.approx(FORESEEN - 1)
    assert state.seconds_until_start(FORESEEN + 49) == pytest.approx(FORESEEN + 49, rel=0.02)


def test_a_queue_that_is_empty_has_no_estimate() -> None:
    state = QueueState({}, [], 0, 1, 0, 0, datetime.now(UTC))
    assert state.seconds_until_start(0) is None


def test_what_another_release_has_written_is_not_foreseen_and_breaks_nothing(
    conn: Connection, renderer: Renderer
) -> None:
    measure_load(conn, load_s=3, boot_s=1)
    measure_step(conn, 0.1)
    before, unknown, after = submit_many(conn, PARAMETERS, PARAMETERS, PARAMETERS)
    conn.execute("""UPDATE predictions SET parameters = '{"canvas": 1}' WHERE id = %s""", (unknown,))
    state = state_of(conn)
    assert [state.place_of(id_) for id_ in (before, unknown, after)] == [0, 1, 2]
    assert state.seconds_until_start(0) == pytest.approx(4, abs=0.5)
    say_alive(conn, replace(WORKER, state="drawing"))
    for _ in range(2):
        claim_one(conn, renderer)
    conn.execute("UPDATE predictions SET worker_id = %s WHERE status = 'processing'", (WORKER.id,))
    assert state_of(conn).place_of(after) == 0
