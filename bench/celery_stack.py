"""The peers of bench.submit and bench.pickup: FastAPI under uvicorn with Celery on Redis, or with PgQueuer."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from bench.command import leave_out
from tests.support.serving import free_port, stop

PEERS = Path(__file__).parent / "peers"
START_TIMEOUT_S = 60.0


def redis_server() -> str:
    """Where redis-server is. Ends the program if there is none."""
    found = shutil.which("redis-server")
    if found is None:
        leave_out(
            "This benchmark compares with Celery on Redis, and redis-server is not installed here. On Debian: "
            "apt-get install redis-server (then stop its service: systemctl disable --now redis-server)."
        )
    return found


def make_environment(folder: Path, requirements: str = "requirements.txt") -> Path:
    """A new environment in which a peer is installed: its Python. Ends the program if that fails."""
    print(f"installing the peer (bench/peers/{requirements}) …", file=sys.stderr, flush=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if subprocess.run([*pip, "-r", PEERS / requirements], check=False).returncode != 0:
        leave_out("The peer can't be installed: see above. It needs a package index, or --peer-python.")
    return python


@contextmanager
def celery_stack(folder: Path, python: Path, *, tells: IO[str] | None = None) -> Iterator[str]:
    """A Redis that syncs every write, and one uvicorn process, as Darkroom's API is one process; yields the base URL.

    `tells`: run a worker, too; it writes there when it begins a task.
    """
    data = folder / "redis"
    data.mkdir()
    redis_port, port = free_port(), free_port()
    redis = [redis_server(), "--port", str(redis_port), "--bind", "127.0.0.1", "--dir", str(data), "--save", ""]
    redis += [
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--loglevel",
        "warning",
        "--logfile",
        str(data / "redis.log"),
    ]
    uvicorn = [str(python), "-m", "uvicorn", "fastapi_celery:app", "--app-dir", str(PEERS), "--port", str(port)]
    uvicorn += ["--log-level", "warning", "--no-access-log"]
    worker = [str(python), "-m", "celery", "--app", "fastapi_celery:celery", "--workdir", str(PEERS), "worker"]
    worker += ["--concurrency", "1", "--prefetch-multiplier", "1", "--loglevel", "ERROR"]
    environment = _environment() | {"BROKER_URL": f"redis://127.0.0.1:{redis_port}/0"}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        processes.append(subprocess.Popen(redis, stdin=subprocess.DEVNULL))
        _wait_for(redis_port, processes[-1])
        processes.append(subprocess.Popen(uvicorn, stdin=subprocess.DEVNULL, env=environment))
        _wait_for(port, processes[-1])
        if tells is not None:
            processes.append(subprocess.Popen(worker, stdin=subprocess.DEVNULL, stdout=tells, env=environment))
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(processes[::-1])


@contextmanager
def pgqueuer_stack(python: Path, database_url: str, *, tells: IO[str]) -> Iterator[str]:
    """One uvicorn process and a worker, on a database of their own; yields the base URL."""
    port = free_port()
    environment = _environment() | {"DATABASE_URL": database_url, "PYTHONPATH": str(PEERS)}
    pgq = [str(python), "-m", "pgqueuer", "--pg-dsn", database_url]
    uvicorn = [str(python), "-m", "uvicorn", "fastapi_pgqueuer:app", "--app-dir", str(PEERS), "--port", str(port)]
    uvicorn += ["--log-level", "warning", "--no-access-log"]
    subprocess.run([*pgq, "install", "--durability", "durable"], env=environment, check=True)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        worker = [str(python), str(PEERS / "fastapi_pgqueuer.py")]
        processes.append(subprocess.Popen(worker, stdin=subprocess.DEVNULL, stdout=tells, env=environment))
        processes.append(subprocess.Popen(uvicorn, stdin=subprocess.DEVNULL, env=environment))
        _wait_for(port, processes[-1])
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(processes[::-1])


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    give_up_at = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < give_up_at:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} ended with {process.returncode}")
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise SystemExit(f"{process.args!r} did not listen within {START_TIMEOUT_S:.0f} s")
