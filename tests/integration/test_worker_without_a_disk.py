"""What a worker writes to files while it draws: nothing. So a full disk costs it a few lines of its log."""

from __future__ import annotations

import hashlib
import resource
import signal
import sys
from pathlib import Path

import pytest

from api.settings import ApiSettings
from cli.processes import end_child, start_child
from storage.postgres.database import Connection
from storage.postgres.procrastinate import queue_name_of
from storage.predictions.parameters import Parameters
from storage.s3.bucket import Bucket
from tests.conftest import REPOSITORY
from tests.integration.worker_running import environment, wait_until
from tests.support.eventually import eventually
from tests.support.making import count, submit_one

MODEL = "darkroom/pocket"


@pytest.mark.timeout(300)
@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="only Linux can limit a process that runs")
def test_a_real_model_draws_and_publishes_without_a_byte_written_to_a_file(
    settings: ApiSettings, conn: Connection, bucket: Bucket, tmp_path: Path
) -> None:
    env = environment(settings, tmp_path, step_s=0.1) | {"MODELS": str(REPOSITORY / "models.toml")}
    log = tmp_path / "worker.log"
    with log.open("ab") as output:
        worker = start_child([sys.executable, "-m", "cli.main", "worker"], env=env, cwd=REPOSITORY, output=output)
    try:
        eventually(lambda: count(conn, "workers", "state = 'idle'") == 1, timeout_s=120)
        # Every write to a file fails from now on: with EFBIG, where a full disk has ENOSPC, through the same code.
        resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (0, 0))
        logged = log.stat().st_size
        parameters = Parameters(
            prompt="a red circle", width=128, height=128, num_inference_steps=2, guidance_scale=0.0, seed=7
        )
        submit_one(conn, model=MODEL, queue_name=queue_name_of(MODEL), parameters=parameters.to_json(), webhook=None)
        wait_until(settings, "status IN ('succeeded', 'failed', 'canceled')", timeout_s=100)
        assert worker.poll() is None
    finally:
        end_child(worker, (signal.SIGTERM, 10.0))
        sys.stderr.write(log.read_text())
    assert worker.returncode == 0
    assert log.stat().st_size == logged, "nothing was forbidden"
    row = conn.execute("SELECT * FROM predictions").fetchone()
    assert row is not None
    assert (row["status"], row["attempt"], row["error"]) == ("succeeded", 1, None)
    (stored,) = conn.execute("SELECT objects.* FROM images JOIN objects ON key = object_key").fetchall()
    assert hashlib.sha256(b"".join(bucket.open(stored["key"]).chunks)).hexdigest() == stored["sha256"]
