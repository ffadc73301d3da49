"""`darkroom worker` in a process of its own: the real command, or, for races, a fork that starts in no time."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from storage.settings import Settings
from tests.support.making import MODEL
from worker.main import run_worker
from worker.settings import WorkerSettings

REPOSITORY = Path(__file__).parents[2]
CATALOG = f"""
[models."{MODEL}"]
engine = "blank"
defaults = {{ width = 64, height = 64, num_inference_steps = 2 }}
"""


@contextmanager
def worker(settings: Settings, folder: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """One that serves the blank model; what it says is in `folder`."""
    catalog = folder / "models.toml"
    catalog.write_text(CATALOG)
    assert settings.s3_secret_access_key is not None
    environment = os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "DATABASE_URL": settings.database_url,
        "S3_ENDPOINT_URL": str(settings.s3_endpoint_url),
        "S3_ACCESS_KEY_ID": str(settings.s3_access_key_id),
        "S3_SECRET_ACCESS_KEY": settings.s3_secret_access_key.get_secret_value(),
        "S3_BUCKET": settings.s3_bucket,
        "S3_PREFIX": settings.s3_prefix,
        "MODELS": str(catalog),
    }
    command = [sys.executable, "-m", "cli.main", "worker", "--model", MODEL, *options]
    with (folder / "worker.log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@contextmanager
def forked_worker(
    settings: Settings, folder: Path, *, idle_exit_s: float | None = None, drain: bool = False
) -> Iterator[multiprocessing.process.BaseProcess]:
    """The same without the seconds that Python takes to import it all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["boto3", "psycopg_pool", "worker.engine.blank", "worker.main", __name__])
    catalog = folder / "models.toml"
    catalog.write_text(CATALOG)
    values = {name: value for name, value in settings.model_dump().items() if name in WorkerSettings.model_fields}
    values["models"] = catalog
    arguments = (values, folder / "worker.log", idle_exit_s, drain)
    process = context.Process(target=_run, args=arguments)
    process.start()
    try:
        yield process
    finally:
        if process.is_alive():
            process.kill()
        process.join()


def exit_code(process: multiprocessing.process.BaseProcess, timeout_s: float = 150) -> int | None:
    process.join(timeout_s)
    return process.exitcode


def _run(values: dict[str, Any], log: Path, idle_exit_s: float | None, drain: bool) -> None:
    with log.open("ab") as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    sys.exit(run_worker(WorkerSettings(**values), model=MODEL, idle_exit_s=idle_exit_s, drain=drain))
