"""A whole worker with the blank engine, against the real Postgres and the real S3 server."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from storage.catalog import Model
from storage.postgres.database import Connection
from storage.predictions.finish import Canceled, finish
from storage.predictions.render import Renderer
from storage.predictions.repeats.result_cache import cache_key_of
from storage.predictions.rescue import expire_leases_of_process, rescue_once
from storage.s3.bucket import Bucket
from storage.workers.queue_state import read_queue_state
from storage.workers.registry import WorkerRow, forget_failures, say_alive
from storage.workers.step_costs import read_step_costs
from tests.chaos.proxy import PostgresProxy
from tests.conftest import RunningServices
from tests.integration.drawn_by_blank import PARAMETERS, blank, over, submit_many
from tests.integration.flaky_proxy import FlakyProxy
from tests.integration.worker_in_thread import working
from tests.support.eventually import eventually
from tests.support.making import MODEL, count, submit_one
from worker.claims.bell_listener import CanNotAsk
from worker.engine.blank import BlankEngine, Sheet
from worker.settings import WorkerSettings


@pytest.fixture
def worker_settings(services: RunningServices, database: str) -> WorkerSettings:
    given = services.settings_for(database).model_dump(exclude_unset=True)
    return WorkerSettings(**given, grace_seconds=10, poll_seconds=0.2)


def test_it_draws_and_what_it_publishes_is_what_it_says(
    worker_settings: WorkerSettings, conn: Connection, bucket: Bucket
) -> None:
    parameters = replace(PARAMETERS, num_outputs=2, output_format="webp")
    submit_one(conn, parameters=parameters.to_json())
    submit_many(conn, 20)
    with working(worker_settings, blank(step_s=0.005)):
        eventually(over(conn, 21))
    objects = conn.execute("SELECT * FROM objects").fetchall()
    assert len(objects) == 2 * 22, "each image and its thumbnail"
    for stored in objects:
        opened = bucket.open(stored["key"])
        body = b"".join(opened.chunks)
        assert hashlib.sha256(body).hexdigest() == stored["sha256"]
        assert (len(body), opened.content_type) == (stored["size_bytes"], stored["content_type"])
    rows = conn.execute("SELECT metrics, logs, attempt FROM predictions").fetchall()
    assert all(row["attempt"] == 1 and row["logs"].count("|") == 8 for row in rows)
    assert max(row["metrics"]["batch_size"] for row in rows) > 1
    took = [row["metrics"] for row in rows]
    assert sum(each["step_count"] for each in took) == 4 * 22
    assert count(conn, "usage_totals", "succeeded = 21 AND images = 22 AND steps = 4 * 22 AND gpu_seconds > 0") == 1
    assert count(conn, "procrastinate_jobs", "task_name = 'darkroom:draw'") == 0
    assert count(conn, "workers") == 0
    assert read_step_costs(conn, device="none (blank)", model=MODEL, version="1")


def test_all_files_of_a_prediction_are_uploaded_at_the_same_time(
    worker_settings: WorkerSettings, conn: Connection
) -> None:
    all_under_way = threading.Barrier(2 * 3)

    class MeetingBucket(Bucket):
        def put(self, *args: Any) -> None:
            all_under_way.wait(60)
            super().put(*args)

    submit_one(conn, parameters=replace(PARAMETERS, num_outputs=3).to_json())
    with working(worker_settings, blank(), bucket=MeetingBucket(worker_settings)):
        eventually(over(conn, 1), 90)
    assert count(conn, "objects") == 2 * 3


def test_it_survives_the_loss_of_all_its_connections(worker_settings: WorkerSettings, conn: Connection) -> None:
    submit_many(conn, 30)
    with working(worker_settings, blank(step_s=0.05)):
        eventually(lambda: count(conn, "predictions", "status = 'processing'") > 0)
        for _ in range(3):
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'darkroom worker%'"
            )
            time.sleep(0.3)
        eventually(over(conn, 30))
    assert count(conn, "predictions", "attempt > 1") <= 2  # a claim whose answer was lost with its connection


def test_a_drain_that_can_not_ask_for_work_waits_until_it_can(
    worker_settings: WorkerSettings, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("storage.postgres.database.POOL_PATIENCE_S", 0.5)  # how long it asks in vain
    submit_many(conn, 3)
    proxy = PostgresProxy(Path(conn.info.host) / f".s.PGSQL.{conn.info.port}")
    try:
        through = proxy.url.replace("/postgres?", f"/{conn.info.dbname}?")
        behind = worker_settings.model_copy(update={"database_url": through})
        with working(behind, blank(load_s=1.0), idle_exit_s=0.0) as draining:
            asked_in_vain = threading.Event()
            take = draining._bells.take

            def watched(**more: Any) -> Any:
                try:
                    return take(**more)
                except CanNotAsk:
                    asked_in_vain.set()
                    raise

            monkeypatch.setattr(draining._bells, "take", watched)
            proxy.cut()  # while the model is loading
            assert asked_in_vain.wait(60)
            proxy.heal()
            eventually(over(conn, 3))
    finally:
        proxy.close()


def test_pictures_outlast_a_bucket_that_is_away(
    worker_settings: WorkerSettings, conn: Connection, services: RunningServices
) -> None:
    with FlakyProxy(services.s3_endpoint_url) as proxy:
        settings = worker_settings.model_copy(update={"s3_endpoint_url": proxy.url})
        submit_many(conn, 12)
        with working(settings, blank(step_s=0.01)) as process:
            eventually(lambda: count(conn, "predictions", "status = 'succeeded'") > 0)
            proxy.is_down.set()
            submit_many(conn, 12)
            time.sleep(3)
            assert count(conn, "predictions", "status = 'failed'") == 0
            proxy.is_down.clear()
            eventually(over(conn, 24))
            eventually(lambda: process._leases.held() == [])  # let go after the commit
    assert count(conn, "predictions", "attempt = 1") == 24


def test_a_cancel_drops_the_drawing_and_leaves_the_others(
    worker_settings: WorkerSettings, conn: Connection, renderer: Renderer
) -> None:
    ids = submit_many(conn, 4)
    with working(worker_settings, blank(step_s=0.3)) as process:
        eventually(lambda: count(conn, "predictions", "status = 'processing'") >= 1)
        assert finish(conn, renderer, ids[0], Canceled()) is not None
        eventually(lambda: all(held.claim.prediction_id != ids[0] for held in process._leases.held()))
        eventually(over(conn, 3))
    assert count(conn, "images", f"prediction_id = '{ids[0]}'") == 0
    # The steps that it took are counted though nothing came of them.
    assert count(conn, "usage_totals", "canceled = 1 AND succeeded = 3 AND steps > 3 * 4") == 1


def test_leaving_hands_back_what_it_can_not_draw_in_time(worker_settings: WorkerSettings, conn: Connection) -> None:
    settings = worker_settings.model_copy(update={"grace_seconds": 0.3})
    submit_many(conn, 6)
    with working(settings, blank(step_s=0.5)):
        eventually(lambda: count(conn, "predictions", "status = 'processing'") >= 1)
    assert count(conn, "predictions", "status = 'starting' AND crashes = 0 AND claim_id IS NULL") == 6
    assert count(conn, "procrastinate_jobs", "status = 'todo' AND task_name = 'darkroom:draw'") == 6
    with working(worker_settings, blank(), idle_exit_s=0.0):
        eventually(over(conn, 6))


def test_leaving_while_the_bucket_is_away_hands_the_pictures_back(
    worker_settings: WorkerSettings, conn: Connection, services: RunningServices
) -> None:
    with FlakyProxy(services.s3_endpoint_url) as proxy:
        settings = worker_settings.model_copy(update={"grace_seconds": 0.5, "s3_endpoint_url": proxy.url})
        with working(settings, blank()) as process:
            eventually(lambda: count(conn, "workers", "state = 'idle'") == 1)
            proxy.is_down.set()
            submit_many(conn, 3)
            eventually(lambda: process._results._unpublished > 0)
    assert count(conn, "predictions", "status = 'starting' AND crashes = 0") == 3


def test_one_that_killed_a_worker_waits_until_it_can_be_alone(
    worker_settings: WorkerSettings, conn: Connection
) -> None:
    ids = submit_many(conn, 6)
    conn.execute("UPDATE predictions SET crashes = 1 WHERE id = %s", (ids[2],))
    with working(worker_settings, blank(step_s=0.02)):
        eventually(over(conn, 6))
    row = conn.execute("SELECT metrics FROM predictions WHERE id = %s", (ids[2],)).fetchone()
    assert row is not None
    assert row["metrics"]["batch_size"] == 1
    overlapping = conn.execute(
        """
        SELECT count(*) AS n FROM predictions AS suspect JOIN predictions AS other ON other.id <> suspect.id
        WHERE suspect.id = %s AND other.started_at < suspect.completed_at AND other.completed_at > suspect.started_at
        """,
        (ids[2],),
    ).fetchone()
    assert overlapping is not None
    assert overlapping["n"] == 0


def test_equal_requests_that_wait_together_are_drawn_once(worker_settings: WorkerSettings, conn: Connection) -> None:
    stored = PARAMETERS.to_json()
    key = cache_key_of(MODEL, "1", stored)
    for _ in range(5):
        submit_one(conn, parameters=stored, cache_key=key, input={"prompt": "a red circle", "seed": 7})
    submit_one(
        conn, parameters=stored, cache_key=key, input={"prompt": "a red circle", "seed": 7, "cache": False}, priority=-1
    )
    # One drawing takes a second, so that the first is stored while others still wait, also on a busy machine.
    with working(worker_settings, blank(step_s=0.25).model_copy(update={"max_batch": 1})):
        eventually(over(conn, 6))
    drawn = count(conn, "predictions", "NOT metrics ? 'cached'")
    assert 2 * drawn == count(conn, "objects"), "each image and its thumbnail"
    assert 2 <= drawn <= 5  # those that were claimed before the first was done, and the one that wants no cache
    assert count(conn, "images") == 6


def test_steps_and_previews_are_told_while_it_draws(worker_settings: WorkerSettings, conn: Connection) -> None:
    import base64
    import io
    import json

    from PIL import Image

    conn.execute("LISTEN darkroom_events")
    wanted = submit_one(conn, parameters=replace(PARAMETERS, previews=True, width=512, height=512).to_json())["id"]
    silent = submit_one(conn)["id"]
    with working(worker_settings, blank(step_s=0.1)):
        eventually(over(conn, 2))
    events = [json.loads(told.payload) for told in conn.notifies(timeout=1)]
    for prediction_id, steps in ((wanted, 4), (silent, 2)):
        taken = [event["step"] for event in events if event["id"] == prediction_id and "step" in event]
        assert taken == list(range(1, steps + 1))
    previews = [event for event in events if "preview" in event]
    assert {event["id"] for event in previews} == {wanted}
    picture = Image.open(io.BytesIO(base64.b64decode(previews[0]["preview"])))
    assert (picture.format, picture.size) == ("WEBP", (64, 64))


def test_a_model_that_can_not_be_loaded_says_so_everywhere(
    worker_settings: WorkerSettings, conn: Connection, renderer: Renderer
) -> None:
    submit_many(conn, 2)
    model = Model(name=MODEL, source="/nowhere/at/all")
    with working(worker_settings, model, code=1):
        pass
    row = conn.execute("SELECT state, error FROM workers").fetchone()
    assert row is not None
    assert row["state"] == "failed"
    assert "there is no folder /nowhere/at/all" in row["error"]
    expire_leases_of_process(conn, socket.gethostname(), os.getpid())  # as `darkroom up` does when a worker ends
    rescue_once(conn, renderer, expire=True)
    assert count(conn, "workers") == 1  # still to be seen
    assert count(conn, "predictions", "status = 'starting' AND logs LIKE '%could not load%no folder …/all%'") == 2
    assert read_queue_state(conn, MODEL, version="1", max_images=8).is_stuck

    with working(worker_settings, blank()):
        eventually(lambda: count(conn, "predictions", "status = 'succeeded'") == 2)
        assert count(conn, "workers", "state = 'failed'") == 0, "old news"


def test_of_several_failures_to_start_the_last_one_stays(conn: Connection) -> None:
    first, last = (WorkerRow(id=uuid4(), hostname="here", pid=pid, model=MODEL, state="failed") for pid in (1, 2))
    other = replace(last, id=uuid4(), model="somebody/else")
    for failed in (first, other, last):
        say_alive(conn, failed)
    forget_failures(conn, MODEL, before=last.id)
    forget_failures(conn, MODEL, before=first.id)  # in whatever order they come to it
    assert count(conn, "workers") == 2
    assert count(conn, "workers", f"id = '{first.id}'") == 0


def test_a_failure_to_start_is_forgotten_in_the_end(conn: Connection, renderer: Renderer) -> None:
    say_alive(conn, WorkerRow(id=uuid4(), hostname="here", pid=1, model=MODEL, state="failed", error="no weights"))
    conn.execute("UPDATE workers SET seen_at = seen_at - interval '9 minutes'")
    assert rescue_once(conn, renderer, expire=True).gone_workers == 0
    conn.execute("UPDATE workers SET seen_at = seen_at - interval '2 minutes'")
    assert rescue_once(conn, renderer, expire=True).gone_workers == 1


def test_the_worker_s_row_says_what_it_does(worker_settings: WorkerSettings, conn: Connection) -> None:
    submit_many(conn, 1)
    with working(worker_settings, blank(step_s=1.0)):
        eventually(lambda: count(conn, "workers", "state = 'drawing' AND images = 1 AND memory_bytes > 1e6") == 1)
        eventually(over(conn, 1))
        eventually(lambda: count(conn, "workers", "state = 'idle'") == 1)


@pytest.mark.parametrize("shows", [True, False])
def test_previews_that_the_model_can_not_show_are_told_in_the_logs_once(
    worker_settings: WorkerSettings, conn: Connection, monkeypatch: pytest.MonkeyPatch, shows: bool
) -> None:
    if not shows:  # as an engine of most pipelines
        monkeypatch.setattr("worker.engine.blank.BlankEngine.preview", lambda self, drawing: None)
    submit_one(conn, webhook=None, parameters=replace(PARAMETERS, previews=True).to_json())
    submit_one(conn, webhook=None, parameters=PARAMETERS.to_json())
    with working(worker_settings, blank(step_s=0.01)):
        eventually(over(conn, 2))
    rows = conn.execute("SELECT logs, parameters FROM predictions").fetchall()
    for row in rows:
        asked = row["parameters"]["previews"]
        assert row["logs"].count("previews has no effect") == (1 if asked and not shows else 0)
        assert row["logs"].count("|") == 8


def test_what_an_engine_notes_is_logged_once_and_its_sampler_is_written_into_the_file(
    worker_settings: WorkerSettings, conn: Connection, bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = "The prompt has 95 tokens; this model reads the first 77."
    monkeypatch.setattr(BlankEngine, "begin", lambda _, asked, __: Sheet(asked, sampler="SomeScheduler", notes=(note,)))
    # As an earlier attempt would have left it.
    row = submit_one(conn, parameters=PARAMETERS.to_json(), logs=f"Using seed: 7\n{note}\n")
    other = submit_one(conn, parameters=PARAMETERS.to_json(), logs="Using seed: 7\n")
    with working(worker_settings, blank()):
        eventually(lambda: count(conn, "predictions", "status = 'succeeded'") == 2)
    for each in (row, other):
        drawn = conn.execute("SELECT logs FROM predictions WHERE id = %s", (each["id"],)).fetchone()
        assert drawn is not None
        assert drawn["logs"].startswith(f"Using seed: 7\n{note}\n")
        assert drawn["logs"].count(note) == 1
    for key in conn.execute("SELECT object_key FROM images").fetchall():
        assert b"Sampler: SomeScheduler, " in b"".join(bucket.open(key["object_key"]).chunks)
