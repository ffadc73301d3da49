"""The supervisor's workers, real ones, when one of them is frozen."""

from __future__ import annotations

import io
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from api.settings import ApiSettings
from cli.host.demand.watch import DemandWatch
from cli.host.workers import Workers
from cli.supervision.launch import start_role
from cli.supervision.log_stream import LogStream
from cli.supervision.stale_processes import ProcessRecord
from storage.postgres.connecting import NotWritable
from storage.postgres.database import Connection, connect
from storage.workers.registry import read_signs
from tests.integration.drawn_by_blank import submit_steps, the_only
from tests.integration.worker_running import environment, rescuing

MODEL = "darkroom/blank"
LOOK_EVERY_S = 1.0  # instead of 5 s, and a worker speaks every 1.5 s: frozen is who was silent for 6 s


@contextmanager
def one_worker(settings: ApiSettings, folder: Path) -> Iterator[tuple[Workers, io.StringIO]]:
    """What `darkroom up` has with `--workers 1`; ended with the block, also what is frozen."""
    said = io.StringIO()
    env = environment(settings, folder, step_s=0.2)
    watch = DemandWatch(settings.direct_url, look_every_s=LOOK_EVERY_S)
    workers = Workers(
        1,
        [MODEL],
        lambda model, place: start_role("worker", "--model", model, env=env),
        watch,
        ProcessRecord(folder),
        LogStream(said),
    )
    watch.start()
    try:
        yield workers, said
    finally:
        watch.stop()
        for worker in workers.running.values():
            worker.child.kill()
            worker.child.process.wait()
            worker.child.exit_code()


def tick_until(workers: Workers, conn: Connection, condition: str, *, timeout_s: float = 150) -> None:
    deadline = time.monotonic() + timeout_s
    while conn.execute(f"SELECT 1 FROM predictions WHERE {condition}").fetchone() is None:
        assert time.monotonic() < deadline, the_only(conn)
        workers.tick()
        time.sleep(0.05)


@pytest.mark.timeout(400)
def test_the_only_worker_is_killed_when_it_is_frozen_and_another_draws(
    settings: ApiSettings, conn: Connection, tmp_path: Path
) -> None:
    submit_steps(conn, 30)
    with rescuing(settings), one_worker(settings, tmp_path) as (workers, said):
        tick_until(workers, conn, "status = 'processing' AND logs <> ''")
        frozen = workers.running[1].child.process
        frozen.send_signal(signal.SIGSTOP)
        tick_until(workers, conn, "status = 'succeeded'")
        assert frozen.returncode == -signal.SIGKILL
        assert f"worker-1 ({MODEL}) gave no sign of life" in said.getvalue()
    assert the_only(conn)["attempt"] >= 2


SIGN_IN = "INSERT INTO workers (id, hostname, pid, model, state) VALUES (gen_random_uuid(), 'here', 7, 'm', 'idle')"


def test_signs_are_not_read_from_a_postgres_that_takes_no_writes(settings: ApiSettings, conn: Connection) -> None:
    conn.execute(SIGN_IN)
    (before,) = read_signs(conn, "here").values()
    assert read_signs(conn, "here") == {7: before}, "looking is no sign of life"
    conn.execute("SET default_transaction_read_only = on")  # as little is written as on a full disk
    with pytest.raises(NotWritable):
        read_signs(conn, "here")


def test_a_row_that_its_frozen_worker_has_locked_does_not_hold_up_the_look(
    settings: ApiSettings, conn: Connection
) -> None:
    conn.execute(SIGN_IN)
    with connect(settings.database_url, application_name="test") as looking, conn.transaction():
        conn.execute("UPDATE workers SET seen_at = clock_timestamp()")
        looking.execute("SET lock_timeout = '5s'")
        assert list(read_signs(looking, "here")) == [7]
