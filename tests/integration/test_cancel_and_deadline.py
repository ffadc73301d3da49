"""Cancel and deadline at every moment of a prediction's life: the end comes at once, once, and nothing is published."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial

import pytest

from storage.postgres.database import Connection, Row, connect
from storage.predictions.finish import Canceled, finish
from storage.predictions.render import Renderer
from storage.predictions.rescue import rescue_once
from storage.predictions.retention.expiry import sweep_orphans
from storage.s3.bucket import Bucket
from storage.settings import Settings
from tests.conftest import RunningServices
from tests.integration.drawn_by_blank import blank, over, submit_many
from tests.integration.flaky_proxy import FlakyProxy
from tests.integration.worker_in_thread import working
from tests.support.eventually import eventually
from tests.support.making import claim_one, count, submit_one, succeeded
from worker.lifecycle import Stage
from worker.settings import WorkerSettings


@pytest.fixture
def worker_settings(services: RunningServices, database: str) -> WorkerSettings:
    given = services.settings_for(database).model_dump(exclude_unset=True)
    return WorkerSettings(**given, grace_seconds=10, poll_seconds=0.2)


@pytest.fixture
def s3(services: RunningServices) -> Iterator[FlakyProxy]:
    with FlakyProxy(services.s3_endpoint_url) as proxy:
        yield proxy


def let_deadline_pass(conn: Connection, prediction_id: str) -> None:
    conn.execute("UPDATE predictions SET deadline_at = clock_timestamp() WHERE id = %s", (prediction_id,))


def nothing_was_published(conn: Connection, bucket: Bucket, settings: Settings) -> None:
    """And what was uploaded for nothing is found by the sweep."""
    assert count(conn, "images") == count(conn, "objects") == 0
    sweep_orphans(conn, bucket, s3_prefix=settings.s3_prefix, unknown_after=timedelta(days=7))
    assert [listed for page in bucket.pages(f"{settings.s3_prefix}/predictions/") for listed in page] == []
    assert count(conn, "procrastinate_jobs", "task_name = 'darkroom:draw'") == 0


def test_a_cancel_while_the_model_loads_is_never_drawn(
    worker_settings: WorkerSettings, conn: Connection, renderer: Renderer
) -> None:
    dropped, kept = submit_many(conn, 2)
    with working(worker_settings, blank(load_s=1.0)) as process:
        assert process.lifecycle.stage is Stage.STARTING
        with connect(worker_settings.database_url, application_name="test") as other:
            assert finish(other, renderer, dropped, Canceled()) is not None
        eventually(over(conn, 1))
    assert count(conn, "predictions", f"id = '{dropped}' AND status = 'canceled' AND attempt = 0") == 1
    assert count(conn, "predictions", f"id = '{kept}' AND status = 'succeeded'") == 1


@pytest.mark.parametrize("way", ["cancel", "deadline"])
def test_an_end_during_the_upload_publishes_nothing(
    worker_settings: WorkerSettings, conn: Connection, renderer: Renderer, bucket: Bucket, s3: FlakyProxy, way: str
) -> None:
    with working(worker_settings.model_copy(update={"s3_endpoint_url": s3.url}), blank()) as process:
        eventually(lambda: count(conn, "workers", "state = 'idle'") == 1)  # it has seen that it can write there
        s3.is_down.set()
        (prediction_id,) = submit_many(conn, 1)
        eventually(lambda: process._results._unpublished == 1)
        if way == "cancel":
            assert finish(conn, renderer, prediction_id, Canceled()) is not None
        else:
            let_deadline_pass(conn, prediction_id)
            assert rescue_once(conn, renderer, expire=True).passed_deadlines == 1
        s3.is_down.clear()
        eventually(lambda: process._leases.held() == [])
    assert count(conn, "predictions", "status = 'canceled'") == 1
    nothing_was_published(conn, bucket, worker_settings)


def test_a_deadline_that_passes_in_mid_drawing_drops_it_and_leaves_the_others(
    worker_settings: WorkerSettings, conn: Connection, renderer: Renderer
) -> None:
    late, punctual = submit_many(conn, 2)
    with working(worker_settings, blank(step_s=0.3)) as process:
        eventually(lambda: count(conn, "predictions", f"id = '{late}' AND status = 'processing' AND logs <> ''") == 1)
        let_deadline_pass(conn, late)
        assert rescue_once(conn, renderer, expire=True).passed_deadlines == 1
        eventually(lambda: all(held.claim.prediction_id != late for held in process._leases.held()))
        eventually(lambda: count(conn, "predictions", f"id = '{punctual}' AND status = 'succeeded'") == 1)
    assert count(conn, "predictions", f"id = '{late}' AND status = 'canceled'") == 1
    assert count(conn, "images", f"prediction_id = '{late}'") == 0


def test_a_cancel_with_the_worker_dead_is_at_once_and_for_good(
    conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    prediction_id = submit_one(conn)["id"]
    claimed = claim_one(conn, renderer)  # and nobody renews it
    assert claimed is not None
    assert finish(conn, renderer, prediction_id, Canceled()) is not None
    conn.execute("UPDATE predictions SET lease_expires_at = 'epoch' WHERE id = %s", (prediction_id,))
    assert not rescue_once(conn, renderer, expire=True)
    assert finish(conn, renderer, prediction_id, succeeded(claimed), claim_id=claimed.claim_id) is None
    assert count(conn, "predictions", "status = 'canceled' AND crashes = 0") == 1
    assert count(conn, "webhook_deliveries", "event = 'completed'") == 1
    assert claim_one(conn, renderer) is None


def at_once(*works: Callable[[], Row | None]) -> list[Row]:
    """Do these at the same moment, on threads that are started in this order; the rows that they wrote."""
    barrier = threading.Barrier(len(works))
    written: list[Row] = []

    def race(work: Callable[[], Row | None]) -> None:
        barrier.wait()
        row = work()
        written.extend([row] if row else [])

    racers = [threading.Thread(target=race, args=(work,)) for work in works]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    return written


def test_of_a_cancel_and_a_result_that_race_one_wins_and_the_other_leaves_no_trace(
    settings: Settings, conn: Connection, renderer: Renderer
) -> None:
    winners = set()
    with (
        connect(settings.database_url, application_name="test") as worker,
        connect(settings.database_url, application_name="test") as client,
    ):
        for turn in range(40):
            prediction_id = submit_one(conn)["id"]
            claimed = claim_one(conn, renderer)
            assert claimed is not None
            result = partial(finish, worker, renderer, prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
            cancel = partial(finish, client, renderer, prediction_id, Canceled())
            ends = at_once(*((result, cancel) if turn % 2 else (cancel, result)))
            assert len(ends) == 1, "one of the two, never both, never neither"
            status = ends[0]["status"]
            winners.add(status)
            assert count(conn, "predictions", f"id = '{prediction_id}' AND status = '{status}'") == 1
            assert count(conn, "images", f"prediction_id = '{prediction_id}'") == (1 if status == "succeeded" else 0)
            told = f"prediction_id = '{prediction_id}' AND event = 'completed'"
            assert count(conn, "webhook_deliveries", told) == 1
    assert winners <= {"succeeded", "canceled"}
    assert count(conn, "procrastinate_jobs", "task_name = 'darkroom:draw'") == 0


def test_a_worker_that_no_bell_was_heard_for_finds_its_work_by_itself(
    worker_settings: WorkerSettings, conn: Connection
) -> None:
    with working(worker_settings, blank()):
        eventually(lambda: count(conn, "workers", "state = 'idle'") == 1)
        conn.execute("ALTER TABLE procrastinate_jobs DISABLE TRIGGER USER")  # nothing is notified on INSERT any more
        submit_many(conn, 3)
        eventually(over(conn, 3))
