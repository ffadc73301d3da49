"""A worker that is told to stop before it draws: it leaves at once, with exit code 0, and its row is gone."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from storage.postgres.database import Connection
from storage.settings import Settings
from tests.integration.worker_running import worker
from tests.support.eventually import eventually
from tests.support.making import count, submit_one

SLOW_CATALOG = '[models."darkroom/blank"]\nengine = "blank"\nblank = { load_s = 3600.0 }\n'
PROC = Path("/proc")


def listens_for_signals(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process catches SIGTERM already. Until Python itself is up, no program can."""
    status = (PROC / str(process.pid) / "status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.skipif(not PROC.is_dir(), reason="only Linux says which signals a process catches")
@pytest.mark.parametrize("after_s", [0.0, 0.3, 1.0])
def test_a_signal_at_any_moment_of_the_start_ends_it_with_0(
    settings: Settings, conn: Connection, tmp_path: Path, after_s: float
) -> None:
    with worker(settings, tmp_path) as process:
        eventually(lambda: listens_for_signals(process))
        time.sleep(after_s)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert count(conn, "workers") == 0
    assert "Traceback" not in (tmp_path / "worker.log").read_text()


def test_a_worker_that_loads_for_an_hour_leaves_at_once_and_signs_off(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    submit_one(conn)
    catalog = tmp_path / "slow.toml"
    catalog.write_text(SLOW_CATALOG)
    with worker(settings, tmp_path, MODELS=str(catalog)) as process:
        eventually(lambda: count(conn, "workers", "state = 'loading'") == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    assert count(conn, "workers") == 0
    assert count(conn, "predictions", "status = 'starting' AND attempt = 0") == 1
    assert "worker.left" in (tmp_path / "worker.log").read_text()
