"""`darkroom worker` in a process of its own, and a rescue beside it, for tests that kill, freeze and stop it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cli.processes import end_child, start_child
from storage.postgres.database import Connection, connect
from storage.predictions.render import open_renderer
from storage.predictions.rescue import rescue_once
from storage.settings import Settings
from tests.conftest import REPOSITORY
from tests.support.eventually import eventually


def start_worker(
    settings: Settings, folder: Path, *, step_s: float = 0.1, crash_at: str = "", **more: str
) -> subprocess.Popen[bytes]:
    """A worker of the blank model; its lines go to `worker.log` in the folder."""
    env = environment(settings, folder, step_s=step_s) | {"DARKROOM_CRASH_AT": crash_at, **more}
    with (folder / "worker.log").open("ab") as log:
        return start_child([sys.executable, "-m", "cli.main", "worker"], env=env, cwd=folder, output=log)


def environment(settings: Settings, folder: Path, *, step_s: float) -> dict[str, str]:
    """The settings of a worker of the blank model, whose catalog is written into the folder."""
    catalog = folder / f"models-{step_s}.toml"
    catalog.write_text(
        '[models."darkroom/blank"]\nengine = "blank"\ndefaults = { width = 64, height = 64 }\n'
        f"blank = {{ step_s = {step_s} }}\n"
    )
    assert settings.s3_secret_access_key is not None
    return os.environ | {
        "DATABASE_URL": settings.database_url,
        "S3_ENDPOINT_URL": str(settings.s3_endpoint_url),
        "S3_ACCESS_KEY_ID": str(settings.s3_access_key_id),
        "S3_SECRET_ACCESS_KEY": settings.s3_secret_access_key.get_secret_value(),
        "S3_BUCKET": settings.s3_bucket,
        "S3_PREFIX": settings.s3_prefix,
        "MODELS": str(catalog),
        "PYTHONPATH": str(REPOSITORY),
    }


@contextmanager
def worker(settings: Settings, folder: Path, **more: Any) -> Iterator[subprocess.Popen[bytes]]:
    """The same, ended with the block, also if it was frozen."""
    process = start_worker(settings, folder, **more)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGCONT)
        end_child(process, (signal.SIGTERM, 10.0))
        sys.stderr.write((folder / "worker.log").read_text())


def wait_until_it_heeds_signals(conn: Connection, process: subprocess.Popen[bytes]) -> None:
    """Until it has signed in. It takes its signals over before that; until then SIGTERM just kills it."""
    eventually(lambda: conn.execute("SELECT FROM workers WHERE pid = %s", (process.pid,)).rowcount == 1, timeout_s=180)


@contextmanager
def rescuing(settings: Settings) -> Iterator[None]:
    """Leases expire as under a courier, but for the grace after it has connected."""
    stop = threading.Event()

    def run() -> None:
        with connect(settings.database_url, application_name="test rescue") as conn:
            renderer = open_renderer(settings, conn)
            while not stop.wait(0.2):
                rescue_once(conn, renderer, expire=True)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def wait_until(settings: Settings, condition: str, *, timeout_s: float = 180) -> None:
    """Until some prediction fulfils an SQL condition."""
    with connect(settings.database_url, application_name="test") as conn:
        eventually(
            lambda: conn.execute(f"SELECT 1 FROM predictions WHERE {condition}").fetchone() is not None,
            timeout_s=timeout_s,
        )
