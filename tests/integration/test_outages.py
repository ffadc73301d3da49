"""A worker and its courier while Postgres or S3 is away, or their disk is full: servers of this module's own.

DARKROOM_TEST_OUTAGE_S says for how long each outage lasts; `make test-outages` runs them with a minute each.
"""

from __future__ import annotations

import hashlib
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from cli.embedded import EmbeddedPostgres, EmbeddedS3
from storage.postgres.database import Connection, Row, connect, open_pool
from storage.postgres.migrate import upgrade
from storage.predictions.parameters import Parameters
from storage.s3.bucket import Bucket, ensure_bucket
from storage.settings import Settings
from tests.integration import courier_running
from tests.integration.drawn_by_blank import OVER, submit_steps
from tests.integration.worker_running import wait_until, worker
from tests.support.eventually import eventually
from tests.support.making import submit_one
from tests.support.small_disk import filled, small_disk

OUTAGE_S = float(os.environ.get("DARKROOM_TEST_OUTAGE_S", "8"))  # longer than a lease, at least
STEPS = 50  # of 0.1 s: begun before the outage (a disk takes seconds to fill), drawn to the end during it
# Not to be squeezed into the last page of a file on a full disk: about 12 kB as PNG, plain as the sheet is.
LARGE = Parameters(
    prompt="a red circle", width=2048, height=2048, num_inference_steps=STEPS, guidance_scale=0.0, seed=7
)

pytestmark = pytest.mark.timeout(600)


class Servers:
    """A Postgres and an S3 server that a test may stop, each in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.postgres = EmbeddedPostgres(folder / "postgres")
        self.s3 = EmbeddedS3(folder / "s3", access_key_id="outages", secret_access_key="not-a-secret-here")

    @contextmanager
    def running(self) -> Iterator[Servers]:
        with ExitStack() as stack:
            stack.callback(self.s3.stop)
            stack.callback(self.postgres.stop)
            self.s3.launch()
            self.postgres.start()
            self.s3.wait()
            self.settings = Settings(
                database_url=self.postgres.url,
                s3_endpoint_url=self.s3.endpoint_url,
                s3_access_key_id="outages",
                s3_secret_access_key="not-a-secret-here",
            )
            upgrade(self.settings)
            ensure_bucket(self.settings)
            yield self


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)  # as root, Postgres runs as an account of its own
        with Servers(Path(name)).running() as running:
            yield running


@contextmanager
def drawing(servers: Servers, folder: Path) -> Iterator[str]:
    """A prediction in the middle of its drawing, with a courier that would rescue it; at the end, drawn just once.

    And its worker, whose model was loaded once, goes on with the next one.
    """
    settings = servers.settings
    with courier_running.process(settings), worker(settings, folder, STALL_SECONDS="20") as process:
        with connect(settings.database_url, application_name="test") as conn:
            prediction_id = submit_one(conn, parameters=LARGE.to_json(), webhook=None, webhook_events=())["id"]
            wait_until(settings, f"id = '{prediction_id}' AND logs LIKE '%3/{STEPS}%'")
        yield prediction_id
        wait_until(settings, f"id = '{prediction_id}' AND {OVER}")
        with connect(settings.database_url, application_name="test") as conn:
            following = submit_steps(conn, 2)["id"]
            wait_until(settings, f"id = '{following}' AND {OVER}")
            drawn_once(conn.execute("SELECT * FROM predictions WHERE id = %s", (prediction_id,)).fetchone())
            stored = conn.execute(
                "SELECT objects.* FROM images JOIN objects ON key = object_key WHERE prediction_id = ANY(%s)",
                ([prediction_id, following],),
            ).fetchall()
        assert len(stored) == 2
        bucket = Bucket(settings)
        for row in stored:
            assert hashlib.sha256(b"".join(bucket.open(row["key"]).chunks)).hexdigest() == row["sha256"]
        assert process.poll() is None
        assert said(folder).count("worker.ready") == 1, "the model stayed loaded"


def drawn_once(row: Row | None) -> None:
    assert row is not None
    assert (row["status"], row["attempt"], row["crashes"]) == ("succeeded", 1, 0), row["error"]
    assert row["logs"].count(f"{STEPS}/{STEPS}") == 1


def said(folder: Path) -> str:
    return (folder / "worker.log").read_text(errors="replace")


def test_a_drawing_outlives_postgres_being_away(servers: Servers, tmp_path: Path) -> None:
    with drawing(servers, tmp_path):
        servers.postgres.process.kill()
        servers.postgres.process.wait()
        try:
            eventually(lambda: "publish.retry" in said(tmp_path))  # it is drawn, and waits to be told
            time.sleep(OUTAGE_S)
        finally:
            servers.postgres.start()


def test_a_drawing_outlives_s3_being_away(servers: Servers, tmp_path: Path) -> None:
    with drawing(servers, tmp_path):
        servers.s3.process.kill()
        servers.s3.process.wait()
        try:
            eventually(lambda: "publish.retry" in said(tmp_path))
            time.sleep(OUTAGE_S)
        finally:
            servers.s3.start()


def test_a_drawing_outlives_both_being_away_at_once(servers: Servers, tmp_path: Path) -> None:
    with drawing(servers, tmp_path):
        for server in (servers.postgres, servers.s3):
            server.process.kill()
            server.process.wait()
        try:
            time.sleep(OUTAGE_S)
        finally:
            servers.postgres.start()
            servers.s3.start()


def test_a_drawing_outlives_a_postgres_that_takes_no_writes(servers: Servers, tmp_path: Path) -> None:
    """As managed servers do it when their disk is full, and for a moment in a failover."""
    with drawing(servers, tmp_path), connect(servers.settings.database_url, application_name="test") as conn:
        try:
            set_read_only(conn, "on")
            eventually(lambda: "publish.retry" in said(tmp_path))  # it is drawn, and waits to be told
            time.sleep(OUTAGE_S)
        finally:
            set_read_only(conn, "off")


def set_read_only(conn: Connection, value: str) -> None:
    conn.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
    conn.execute("SELECT pg_reload_conf()")
    with connect(conn.info.dsn, application_name="test") as fresh:
        eventually(lambda: fresh.execute("SHOW transaction_read_only").fetchone() == {"transaction_read_only": value})


def test_a_worker_that_has_to_leave_while_s3_hangs_hands_its_picture_back(servers: Servers, tmp_path: Path) -> None:
    settings = servers.settings
    with connect(settings.database_url, application_name="test") as conn:
        prediction_id = submit_steps(conn, STEPS)["id"]
        with worker(settings, tmp_path, GRACE_SECONDS="3") as process:
            wait_until(settings, f"id = '{prediction_id}' AND logs LIKE '%/{STEPS}%'")
            servers.s3.process.send_signal(signal.SIGSTOP)  # neither answers nor refuses, for as long as we like
            try:
                # By then it is drawn and uploads. (On a busy machine it may still be drawn, and hang within the grace.)
                time.sleep(STEPS * 0.2)
                process.send_signal(signal.SIGTERM)
                assert process.wait(60) == 0
                row = conn.execute("SELECT * FROM predictions WHERE id = %s", (prediction_id,)).fetchone()
            finally:
                servers.s3.process.send_signal(signal.SIGCONT)
        assert row is not None
        assert (row["status"], row["crashes"]) == ("starting", 0)
        assert conn.execute("SELECT FROM workers WHERE pid = %s", (process.pid,)).fetchone() is None
    with worker(settings, tmp_path):
        wait_until(settings, f"id = '{prediction_id}' AND {OVER}")


def answers(pool: ConnectionPool[Connection]) -> bool:
    try:
        with pool.connection() as conn:
            conn.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def test_requests_find_postgres_as_soon_as_it_is_back(servers: Servers, monkeypatch: pytest.MonkeyPatch) -> None:
    # As if it had been away for a minute: psycopg's pause before the next attempt has grown to that by then.
    monkeypatch.setattr("psycopg_pool.base.AttemptWithBackoff.INITIAL_DELAY", 60.0)
    pool = open_pool(servers.settings, application_name="test", size=1)
    try:
        with pool.connection() as conn:
            conn.execute("SELECT 1")
        servers.postgres.process.kill()
        servers.postgres.process.wait()
        try:
            eventually(lambda: not answers(pool))  # its children outlive it for a moment
        finally:
            servers.postgres.start()
        with suppress(psycopg.OperationalError), pool.connection():
            pass  # it may have come too early
        with pool.connection() as conn:
            assert conn.execute("SELECT 1 AS one").fetchone() == {"one": 1}
    finally:
        pool.close()


@pytest.mark.parametrize("role", ["postgres", "s3"])
def test_a_drawing_outlives_a_full_disk(role: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / role).mkdir()
        with small_disk(folder / role) as disk, Servers(folder).running() as servers, drawing(servers, tmp_path):
            with filled(disk):
                if role == "postgres":
                    eventually(lambda: "publish.retry" in said(tmp_path))
                    time.sleep(OUTAGE_S)
                else:  # SeaweedFS keeps the request waiting
                    time.sleep(max(OUTAGE_S, STEPS * 0.2))  # by then it is drawn, and has nowhere to go
                    with connect(servers.settings.database_url, application_name="test") as conn:
                        assert conn.execute("SELECT status FROM predictions").fetchone() == {"status": "processing"}
            server = servers.postgres if role == "postgres" else servers.s3
            if server.process.poll() is not None:  # Postgres stops where it can't write its log
                server.start()


def test_a_worker_whose_own_disk_is_full_and_takes_no_more_lines_still_draws(servers: Servers, tmp_path: Path) -> None:
    settings = servers.settings
    with connect(settings.database_url, application_name="test") as conn:
        prediction_id = submit_steps(conn, 2)["id"]
    with small_disk(tmp_path, size_bytes=2**20) as disk, worker(settings, tmp_path):
        with filled(disk):
            wait_until(settings, f"id = '{prediction_id}' AND {OVER}")
        with connect(settings.database_url, application_name="test") as conn:
            row = conn.execute("SELECT status FROM predictions WHERE id = %s", (prediction_id,)).fetchone()
            assert row == {"status": "succeeded"}
