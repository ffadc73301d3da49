"""Two hosts on machines of their own, and one of them loses its network in the middle of a drawing."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from storage.postgres.database import Connection
from storage.settings import Settings
from tests.integration.drawn_by_blank import submit_steps
from tests.integration.flaky_proxy import FlakyProxy
from tests.integration.test_hosts import PATIENT_S, RunningHost, succeeded
from tests.integration.worker_running import environment, rescuing
from tests.support.eventually import eventually
from tests.support.machines import Machine, machine, why_impossible
from tests.support.making import count, submit_one

pytestmark = pytest.mark.timeout(600)
REASON = why_impossible()


@contextmanager
def host_on(there: Machine, settings: Settings, folder: Path) -> Iterator[RunningHost]:
    """`darkroom host` on that machine, with Postgres and the bucket at this machine's address."""
    folder.mkdir()
    assert settings.s3_endpoint_url is not None
    with (
        FlakyProxy(settings.database_url, host=there.address) as postgres,
        FlakyProxy(settings.s3_endpoint_url, host=there.address) as s3,
    ):
        database = urlsplit(settings.database_url)
        env = environment(settings, folder, step_s=0.4) | {
            "DATABASE_URL": f"postgresql://{database.username}@{urlsplit(postgres.url).netloc}{database.path}",
            "DATABASE_DIRECT_URL": "",
            "S3_ENDPOINT_URL": s3.url,
            "GRACE_SECONDS": "1",
        }
        running = RunningHost(env, folder / "run", "--no-warm-parent", "--idle-exit", "600", on=there)
        try:
            running.wait_for("draw here for")
            yield running
        finally:
            there.mend()
            running.close()


@pytest.mark.skipif(REASON is not None, reason=f"no machines can be made: {REASON}")
def test_a_host_that_is_cut_off_loses_its_work_to_another_one_and_comes_back(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    with machine(1) as first, machine(2) as second, rescuing(settings):
        assert len({socket.gethostname(), first.name, second.name}) == 3
        with host_on(first, settings, tmp_path / "a") as a, host_on(second, settings, tmp_path / "b") as b:
            submit_steps(conn, 12)
            drawing = "status = 'processing' AND logs <> ''"
            eventually(lambda: count(conn, "predictions", drawing) == 1, timeout_s=PATIENT_S)
            eventually(lambda: a.count("prediction.claimed") + b.count("prediction.claimed") == 1)
            cut_off, other = (first, b) if a.count("prediction.claimed") else (second, a)
            itself = a if cut_off is first else b
            assert count(conn, "workers", f"hostname = '{cut_off.name}'") == 1

            cut_off.cut()
            eventually(lambda: succeeded(conn) == 1, timeout_s=PATIENT_S)
            eventually(lambda: other.count("prediction.succeeded") == 1)
            assert count(conn, "predictions", "attempt = 2 AND crashes = 1") == 1
            published = conn.execute("SELECT object_key FROM images").fetchall()

            cut_off.mend()
            eventually(lambda: itself.count("prediction.claim_lost") == 1, timeout_s=PATIENT_S)
            assert itself.count("prediction.succeeded") == 0
            assert conn.execute("SELECT object_key FROM images").fetchall() == published

            assert other.end() == 0
            submit_one(conn)
            eventually(lambda: succeeded(conn) == 2, timeout_s=PATIENT_S)
            eventually(lambda: itself.count("prediction.succeeded") == 1)
            assert itself.end() == 0
    assert count(conn, "workers") == 0
