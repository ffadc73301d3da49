"""Workers that leave by themselves: what comes in at that very moment is drawn, by them or by the next one.

The test is the autoscaler: it starts the next worker when one has ended and the trigger's query counts something.
`make test-races` runs 100 races of each kind.
"""

from __future__ import annotations

import os
import random
import socket
import time
from pathlib import Path

import pytest

from storage.postgres.database import Connection
from storage.settings import Settings
from tests.deploy.manifests import trigger_query
from tests.deploy.worker_running import exit_code, forked_worker, worker
from tests.support.eventually import eventually
from tests.support.making import MODEL, QUEUE, count, submit_one

RACES = int(os.environ.get("DARKROOM_TEST_RACES", "5"))
QUERY = trigger_query("worker/scaled-object.yaml", queue_name=QUEUE)
pytestmark = pytest.mark.timeout(300 + 40 * RACES)


def counted(conn: Connection) -> int:
    row = conn.execute(QUERY).fetchone()
    assert row is not None
    number: int = row["count"]
    return number


def drawn(conn: Connection) -> int:
    return count(conn, "predictions", "status = 'succeeded'")


def scale_to_zero(
    settings: Settings, conn: Connection, folder: Path, *, idle_exit_s: float | None = None, drain: bool = False
) -> None:
    """Start one worker after the other until nothing is counted."""
    started = 0
    while counted(conn) > 0:
        started += 1
        assert started <= 3, (folder / "worker.log").read_text()
        with forked_worker(settings, folder, idle_exit_s=idle_exit_s, drain=drain) as process:
            assert exit_code(process) == 0


def nothing_is_left(conn: Connection) -> None:
    assert count(conn, "workers") == 0
    assert count(conn, "procrastinate_workers") == 0
    assert count(conn, "procrastinate_jobs", f"queue_name = '{QUEUE}'") == 0
    assert count(conn, "predictions", "attempt <> 1 OR crashes <> 0") == 0


def test_what_is_submitted_while_a_worker_exits_for_idleness_is_drawn(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    idle_s = 0.3
    for race in range(1, RACES + 1):
        with forked_worker(settings, tmp_path, idle_exit_s=idle_s) as process:
            # On a busy machine it may have come and gone before we look: the next one draws it then.
            eventually(lambda: count(conn, "workers", "state = 'idle'") == 1 or not process.is_alive())
            time.sleep(idle_s + random.uniform(-0.05, 0.1))
            submit_one(conn)
            assert exit_code(process) == 0
        scale_to_zero(settings, conn, tmp_path, idle_exit_s=idle_s)
        assert drawn(conn) == race
    nothing_is_left(conn)


def test_what_is_submitted_while_a_draining_worker_ends_is_drawn(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    for race in range(1, RACES + 1):
        submit_one(conn)
        with forked_worker(settings, tmp_path, drain=True) as process:
            eventually(lambda: drawn(conn) == 2 * race - 1, every_s=0.001)  # noqa: B023 - called in this turn only
            time.sleep(random.uniform(0, 0.02))
            submit_one(conn)
            assert exit_code(process) == 0
        scale_to_zero(settings, conn, tmp_path, drain=True)
        assert drawn(conn) == 2 * race
    nothing_is_left(conn)


def test_a_draining_worker_takes_all_there_is_and_lingers_for_the_idle_time(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    for _ in range(5):
        submit_one(conn)
    with worker(settings, tmp_path, "--drain", "--idle-exit", "3") as process:
        eventually(lambda: drawn(conn) == 5)
        time.sleep(0.5)
        submit_one(conn)
        eventually(lambda: drawn(conn) == 6)
        assert process.wait(150) == 0
    nothing_is_left(conn)


def test_a_worker_signs_in_by_host_and_process_and_takes_itself_out(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    with worker(settings, tmp_path) as process:
        eventually(lambda: count(conn, "workers", "state = 'idle'") == 1)
        row = conn.execute("SELECT * FROM workers").fetchone()
        assert row is not None
        assert (row["hostname"], row["pid"], row["model"]) == (socket.gethostname(), process.pid, MODEL)
        assert row["device"]
        seen_at = row["seen_at"]
        eventually(lambda: count(conn, "workers", f"seen_at > '{seen_at}'") == 1)
        process.terminate()
        assert process.wait(150) == 0
    nothing_is_left(conn)
