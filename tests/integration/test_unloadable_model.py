"""A model that can't be loaded: what waits for it fails with the reason after some tries, or some time."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from storage.catalog import Model
from storage.postgres.database import Connection, Row
from storage.predictions.read import read_prediction
from storage.predictions.render import Renderer
from storage.predictions.rescue import RescueReport, expire_leases_of_process, rescue_once
from storage.settings import Settings
from storage.workers.load_failures import DIED, LoadPatience, forget_old_failures, record_failure
from storage.workers.registry import WorkerRow, WorkerState, say_alive
from tests.support.making import MODEL, claim_one, count, submit_one
from worker.engine import Engine
from worker.process import WorkerProcess
from worker.settings import WorkerSettings

BROKEN = Model(name=MODEL, source="/srv/secret/place/weights")
MENDED = Model(name=MODEL, engine="blank")


@pytest.fixture
def worker_settings(settings: Settings) -> WorkerSettings:
    return WorkerSettings(**settings.model_dump(exclude_unset=True), poll_seconds=0.2)


def work(worker_settings: WorkerSettings, model: Model, *, code: int, load: Callable[[], Engine] | None = None) -> None:
    """A whole life of a worker, as KEDA, systemd or `darkroom up` start one: it loads, draws what there is, ends."""
    codes: list[int] = []
    process = WorkerProcess(worker_settings, model, idle_exit_s=0.0, load=load)
    thread = threading.Thread(target=lambda: codes.append(process.run()))
    thread.start()
    thread.join(timeout=120)
    assert codes == [code]


def rescue(conn: Connection, renderer: Renderer, *, expire: bool = True) -> RescueReport:
    return rescue_once(conn, renderer, expire=expire, patience=LoadPatience(tries=3, timeout=timedelta(minutes=10)))


def fail_to_load(conn: Connection, times: int = 1, *, model: str = MODEL) -> None:
    for _ in range(times):
        record_failure(conn, model, uuid4(), "no weights")


def sign_in(conn: Connection, state: WorkerState, *, model: str = MODEL) -> UUID:
    worker_id = uuid4()
    pid = os.getpid()
    say_alive(conn, WorkerRow(id=worker_id, hostname=socket.gethostname(), pid=pid, model=model, state=state))
    return worker_id


def read(conn: Connection, prediction_id: str) -> Row:
    row = read_prediction(conn, prediction_id)
    assert row is not None
    return row


def test_after_three_workers_that_could_not_load_it_the_prediction_fails_with_the_reason(
    worker_settings: WorkerSettings, conn: Connection, renderer: Renderer
) -> None:
    waiting = [submit_one(conn)["id"] for _ in range(2)]
    other = submit_one(conn, model="somebody/else", queue_name="else")["id"]
    for _ in range(2):
        work(worker_settings, BROKEN, code=1)
        assert rescue(conn, renderer).unloadable == 0
    work(worker_settings, BROKEN, code=1)
    assert rescue(conn, renderer).unloadable == 2
    for prediction_id in waiting:
        row = read(conn, prediction_id)
        assert row["status"] == "failed"
        assert row["error"].startswith(
            "The model could not be loaded (failed tries: 3). The last one: there is no folder"
        )
        assert "secret" not in row["error"]
    assert read(conn, other)["status"] == "starting"
    assert count(conn, "webhook_deliveries", "body LIKE '%could not be loaded%'") == 2
    assert count(conn, "procrastinate_jobs", "task_name = 'darkroom:draw'") == 1  # the other one's


def test_what_is_asked_for_after_that_gets_tries_of_its_own(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    fail_to_load(conn, 3)
    later = submit_one(conn)["id"]
    assert rescue(conn, renderer).unloadable == 1
    fail_to_load(conn, 2)
    assert rescue(conn, renderer).unloadable == 0
    fail_to_load(conn)
    assert rescue(conn, renderer).unloadable == 1
    assert "failed tries: 3" in read(conn, later)["error"]


def test_a_mended_model_draws_what_still_waits_and_its_failures_are_forgotten(
    worker_settings: WorkerSettings, conn: Connection, renderer: Renderer
) -> None:
    waiting = submit_one(conn)["id"]
    for _ in range(2):
        work(worker_settings, BROKEN, code=1)
    work(worker_settings, MENDED, code=0)
    assert read(conn, waiting)["status"] == "succeeded"
    assert count(conn, "load_failures") == 0


@pytest.mark.parametrize("state", ["idle", "drawing"])
def test_nothing_fails_while_another_worker_serves_the_model(
    conn: Connection, renderer: Renderer, state: WorkerState
) -> None:
    submit_one(conn)
    sign_in(conn, state)
    fail_to_load(conn, 5)
    conn.execute("UPDATE load_failures SET failed_at = failed_at + interval '1 second'")
    assert rescue(conn, renderer).unloadable == 0
    conn.execute("UPDATE workers SET seen_at = seen_at - interval '2 minutes'")  # nothing was heard of it since
    assert rescue(conn, renderer).unloadable == 1


@pytest.mark.parametrize(
    ("state", "model"), [("idle", "somebody/else"), ("loading", MODEL), ("failed", MODEL), ("draining", MODEL)]
)
def test_a_worker_that_does_not_serve_the_model_saves_nothing(
    conn: Connection, renderer: Renderer, state: WorkerState, model: str
) -> None:
    submit_one(conn)
    sign_in(conn, state, model=model)
    fail_to_load(conn, 3)
    assert rescue(conn, renderer).unloadable == 1


def test_ten_minutes_after_the_first_failure_it_fails_too_but_not_while_a_worker_loads(
    conn: Connection, renderer: Renderer
) -> None:
    submit_one(conn)
    fail_to_load(conn)
    conn.execute("UPDATE predictions SET created_at = created_at - interval '11 minutes'")
    assert rescue(conn, renderer).unloadable == 0  # it has waited for long, but not since the failure
    conn.execute("UPDATE load_failures SET failed_at = failed_at - interval '601 seconds'")
    younger = submit_one(conn)["id"]
    sign_in(conn, "loading")
    assert rescue(conn, renderer).unloadable == 0
    conn.execute("DELETE FROM workers")
    assert rescue(conn, renderer).unloadable == 1
    assert read(conn, younger)["status"] == "starting"


def test_what_is_being_drawn_and_what_is_over_stay_as_they_are(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    fail_to_load(conn, 3)
    assert rescue(conn, renderer).unloadable == 0
    assert read(conn, claimed.prediction_id)["status"] == "processing"


def test_nothing_fails_right_after_postgres_was_away(conn: Connection, renderer: Renderer) -> None:
    """Healthy workers could not say that they are there."""
    submit_one(conn)
    fail_to_load(conn, 3)
    assert rescue(conn, renderer, expire=False).unloadable == 0
    assert rescue(conn, renderer).unloadable == 1


def test_a_worker_that_dies_while_it_loads_counts_as_a_try(conn: Connection, renderer: Renderer) -> None:
    """Killed for its memory, it can't say so itself: `darkroom up` sees it end, elsewhere rescue misses it."""
    waiting = submit_one(conn)["id"]
    sign_in(conn, "loading")
    expire_leases_of_process(conn, socket.gethostname(), os.getpid())
    for _ in range(2):
        sign_in(conn, "loading")
        conn.execute("UPDATE workers SET seen_at = seen_at - interval '2 minutes'")
    for state in ("idle", "drawing", "draining"):  # these had loaded it
        sign_in(conn, state)
        conn.execute("UPDATE workers SET seen_at = seen_at - interval '2 minutes'")
    report = rescue(conn, renderer)
    assert (report.gone_workers, report.unloadable) == (5, 1)
    assert DIED in read(conn, waiting)["error"]
    assert "failed tries: 3" in read(conn, waiting)["error"]


def test_what_no_engine_expected_is_a_failed_try_too(
    worker_settings: WorkerSettings, conn: Connection, renderer: Renderer
) -> None:
    def load() -> Engine:
        raise ValueError("SomePipeline takes no prompt")

    submit_one(conn)
    work(worker_settings, MENDED, code=1, load=load)
    row = conn.execute("SELECT reason FROM load_failures").fetchone()
    assert row is not None
    assert row["reason"] == "ValueError: SomePipeline takes no prompt"
    assert count(conn, "workers", "state = 'failed'") == 1
    assert count(conn, "predictions", "logs LIKE '%could not load%SomePipeline takes no prompt%'") == 1


def test_old_failures_go(conn: Connection) -> None:
    fail_to_load(conn, 2)
    conn.execute(
        "UPDATE load_failures SET failed_at = failed_at - interval '8 days' WHERE worker_id = "
        "(SELECT worker_id FROM load_failures LIMIT 1)"
    )
    assert forget_old_failures(conn) == 1
    assert count(conn, "load_failures") == 1
