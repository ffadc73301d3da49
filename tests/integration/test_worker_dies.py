"""Workers as processes of their own, killed at every named place, frozen, wedged, told to stop, cut off."""

from __future__ import annotations

import hashlib
import signal
import time
from datetime import timedelta
from pathlib import Path

import pytest

from api.settings import ApiSettings
from storage.postgres.database import Connection
from storage.predictions.rescue import expire_leases_of_process
from storage.predictions.retention.expiry import sweep_orphans
from storage.s3.bucket import Bucket
from tests.chaos.proxy import PostgresProxy
from tests.integration.drawn_by_blank import OVER, submit_steps, the_only
from tests.integration.worker_running import rescuing, start_worker, wait_until, wait_until_it_heeds_signals, worker
from tests.support.eventually import eventually
from tests.support.making import count


def published(conn: Connection, bucket: Bucket) -> list[str]:
    """The keys that images show, each of which must be in the bucket with its hash."""
    keys = []
    for row in conn.execute("SELECT objects.* FROM images JOIN objects ON objects.key = object_key").fetchall():
        assert hashlib.sha256(b"".join(bucket.open(row["key"]).chunks)).hexdigest() == row["sha256"]
        keys.append(row["key"])
    return keys


@pytest.mark.timeout(600)
def test_wherever_a_worker_dies_one_result_is_published_and_no_byte_is_left(
    settings: ApiSettings, conn: Connection, bucket: Bucket, tmp_path: Path
) -> None:
    orphans = 0
    for number, place in enumerate(("mid-step", "after-upload", "after-commit"), start=1):
        row = submit_steps(conn, 2)
        with worker(settings, tmp_path, step_s=0.02, crash_at=place) as dying:
            assert dying.wait(180) == -signal.SIGKILL
            hostname = conn.execute("SELECT hostname FROM workers").fetchone()
            assert hostname is not None
            expire_leases_of_process(conn, hostname["hostname"], dying.pid)
        with rescuing(settings), worker(settings, tmp_path, step_s=0.02):
            wait_until(settings, f"id = '{row['id']}' AND {OVER}")
        last = conn.execute("SELECT * FROM predictions WHERE id = %s", (row["id"],)).fetchone()
        assert last is not None
        assert last["status"] == "succeeded", place
        assert last["attempt"] == (1 if place == "after-commit" else 2), place
        keys = published(conn, bucket)
        assert len(keys) == number, place
        orphans += sweep_orphans(conn, bucket, s3_prefix=settings.s3_prefix, unknown_after=timedelta(days=7))
        stored = {listed.key for page in bucket.pages(f"{settings.s3_prefix}/predictions/") for listed in page}
        assert stored == {row["key"] for row in conn.execute("SELECT key FROM objects")}, place
    assert orphans == 1, "what the one that died after its upload had stored, under a key of its own"


@pytest.mark.timeout(600)
def test_a_worker_that_was_frozen_for_longer_than_its_lease_touches_nothing(
    settings: ApiSettings, conn: Connection, bucket: Bucket, tmp_path: Path
) -> None:
    row = submit_steps(conn, 20)
    with rescuing(settings), worker(settings, tmp_path) as frozen:
        wait_until(settings, "status = 'processing' AND logs <> ''")
        frozen.send_signal(signal.SIGSTOP)
        wait_until(settings, "status = 'starting' AND crashes = 1")
        with worker(settings, tmp_path, step_s=0.01):
            wait_until(settings, OVER)
        before = the_only(conn)
        frozen.send_signal(signal.SIGCONT)
        second = submit_steps(conn, 2)
        wait_until(settings, f"id = '{second['id']}' AND {OVER}")
        assert frozen.poll() is None, "it goes on with other work"
    after = conn.execute("SELECT * FROM predictions WHERE id = %s", (row["id"],)).fetchone()
    assert after == before
    assert [key for key in published(conn, bucket) if f"{row['id']}/2-" in key]


@pytest.mark.timeout(600)
def test_a_worker_whose_step_hangs_exits_and_another_draws(
    settings: ApiSettings, conn: Connection, tmp_path: Path
) -> None:
    submit_steps(conn, 2)
    with rescuing(settings):
        with worker(settings, tmp_path, step_s=120.0, STALL_SECONDS="2") as wedged:
            assert wedged.wait(180) == 70
        with worker(settings, tmp_path):
            wait_until(settings, OVER)
    row = the_only(conn)
    assert (row["status"], row["crashes"]) == ("succeeded", 1)


@pytest.mark.timeout(600)
def test_a_worker_that_was_frozen_for_longer_than_a_stall_keeps_its_model_and_goes_on(
    settings: ApiSettings, conn: Connection, tmp_path: Path
) -> None:
    submit_steps(conn, 1)
    with worker(settings, tmp_path, step_s=16.0, STALL_SECONDS="8") as frozen:
        wait_until(settings, "status = 'processing'")
        time.sleep(3)  # nothing outside says that the step has begun: on a busy machine that takes a moment
        frozen.send_signal(signal.SIGSTOP)
        time.sleep(10)  # it thaws in the middle of its step, without progress for longer than a stall takes
        frozen.send_signal(signal.SIGCONT)
        wait_until(settings, OVER)
        assert frozen.poll() is None
    row = the_only(conn)
    assert (row["status"], row["attempt"]) == ("succeeded", 1)


@pytest.mark.timeout(600)
def test_a_worker_that_drains_keeps_its_claim_until_the_drawing_is_done(
    settings: ApiSettings, conn: Connection, tmp_path: Path
) -> None:
    submit_steps(conn, 45)
    with rescuing(settings), worker(settings, tmp_path, step_s=0.2) as draining:
        wait_until(settings, "status = 'processing' AND logs <> ''")
        draining.send_signal(signal.SIGTERM)
        eventually(lambda: count(conn, "workers", "state = 'draining'") == 1)
        assert draining.wait(120) == 0
    row = the_only(conn)
    assert (row["status"], row["attempt"], row["crashes"]) == ("succeeded", 1, 0)


@pytest.mark.timeout(600)
def test_a_drawing_outlives_an_outage_of_postgres(settings: ApiSettings, conn: Connection, tmp_path: Path) -> None:
    submit_steps(conn, 30)
    socket = Path(conn.info.host) / f".s.PGSQL.{conn.info.port}"
    proxy = PostgresProxy(socket)
    try:
        through = proxy.url.replace("/postgres?", f"/{conn.info.dbname}?")
        behind = settings.model_copy(update={"database_url": through})
        with worker(behind, tmp_path) as cut_off:
            wait_until(settings, "status = 'processing' AND logs <> ''")
            proxy.cut()
            # By the time it is drawn, the lease is over, and nobody has taken the claim: it is still the worker's.
            wait_until(settings, "lease_expires_at < clock_timestamp() - interval '2 s'")
            proxy.heal()
            wait_until(settings, OVER)
            assert cut_off.poll() is None
    finally:
        proxy.close()
    row = the_only(conn)
    assert (row["status"], row["attempt"]) == ("succeeded", 1)


@pytest.mark.timeout(600)
def test_a_rolling_restart_under_load_repeats_and_loses_nothing(
    settings: ApiSettings, conn: Connection, tmp_path: Path
) -> None:
    for _ in range(24):
        submit_steps(conn, 8)
    workers = [start_worker(settings, tmp_path) for _ in range(2)]
    try:
        with rescuing(settings):
            wait_until(settings, "status = 'succeeded'")
            for place in range(2):
                for _ in range(12):  # a worker draws several at once, so the load has to be renewed
                    submit_steps(conn, 40)
                wait_until(settings, "status = 'processing'")
                wait_until_it_heeds_signals(conn, workers[place])
                workers[place].send_signal(signal.SIGTERM)
                assert workers[place].wait(120) == 0
                workers[place] = start_worker(settings, tmp_path)
            wait_until(settings, f"NOT EXISTS (SELECT FROM predictions WHERE NOT {OVER})")
            # While Python itself starts, no program can catch a signal; this test is about workers that run.
            eventually(lambda: count(conn, "workers") == 2, timeout_s=120)
    finally:
        for process in workers:
            wait_until_it_heeds_signals(conn, process)
            process.send_signal(signal.SIGTERM)
        assert [process.wait(120) for process in workers] == [0, 0]
    # What a leaving worker had claimed and not begun was claimed again; nothing crashed, nothing was uploaded twice.
    assert count(conn, "predictions", "status = 'succeeded' AND crashes = 0") == 24 + 2 * 12
    assert count(conn, "objects") == 2 * count(conn, "images") == 2 * (24 + 2 * 12), "an image and its thumbnail each"
