"""`darkroom up` in a subprocess, as a user runs it, and the search for what it may leave behind."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

from tests.support.eventually import eventually

REPOSITORY = Path(__file__).parents[2]
READY = re.compile(r"Darkroom is ready at (http://\S+)")
NOT_OURS = ("DATABASE_", "S3_", "PUBLIC_URL", "MODELS", "WEBHOOK_", "AUTH")
CATALOG = """
[models."test/blank"]
engine = "blank"
defaults = { width = 64, height = 64, num_inference_steps = 4 }
limits = { multiple_of = 16, max_steps = 50 }
blank = { step_s = 0.05 }

[models."test/slow"]
engine = "blank"
defaults = { width = 64, height = 64, num_inference_steps = 10 }
limits = { multiple_of = 16, max_steps = 50 }
blank = { step_s = 0.4 }
"""


class RunningUp:
    """The command, its lines so far, and requests to it. Its data and its catalog are in `folder`."""

    def __init__(
        self,
        folder: Path,
        *options: str,
        port: int = 0,
        env: dict[str, str] | None = None,
        make: Sequence[str] | None = None,
    ) -> None:
        """`make`: a command that comes to the same, in the place of `darkroom up` with its options."""
        self.folder = folder
        self.data = folder / "data"
        self.lines: list[str] = []
        self.started_at = time.monotonic()
        catalog = folder / "models.toml"
        if not catalog.exists():
            catalog.write_text(CATALOG)
        clean = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
        self.process = subprocess.Popen(
            make or [
                sys.executable, "-m", "cli.main", "up", "--port", str(port), "--data", str(self.data),
                "--models", str(catalog), *options,
            ],
            cwd=REPOSITORY,
            env={**clean, "PYTHONPATH": str(REPOSITORY), **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )  # fmt: skip
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> RunningUp:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(15)
        self.close()
        left = processes_of(self.folder)
        for process in left:
            process.kill()
        psutil.wait_procs(left, timeout=10)  # or they would write into the folder while it is removed

    def close(self) -> None:
        """End the command alone, and let go of it."""
        self.kill()
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def output(self) -> str:
        return "\n".join(self.lines)

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()

    def interrupt(self) -> int:
        """Ctrl-C; returns the exit code. It takes up to 10 s, and longer on a machine that does other work too."""
        self.process.send_signal(signal.SIGINT)
        return self.wait_for_exit()

    def wait_for_exit(self) -> int:
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def wait_until_ready(self, timeout_s: float = 180) -> str:
        """The URL out of the ready line."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            for line in self.lines:
                if match := READY.fullmatch(line):
                    return match[1]
            assert self.process.poll() is None, self.output
            time.sleep(0.02)
        raise AssertionError(f"not ready after {timeout_s} s:\n{self.output}")

    @property
    def url(self) -> str:
        return self.wait_until_ready()

    def request(self, method: str, path: str, body: object = None, **headers: str) -> tuple[int, dict[str, Any]]:
        with closing(http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)) as connection:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json", **headers})
            answer = connection.getresponse()
            return answer.status, json.load(answer)

    def submit(self, model: str = "test/blank", **inputs: object) -> str:
        """The id of a new prediction."""
        body = {"model": model, "input": {"prompt": "a red circle", **inputs}}
        status, prediction = self.request("POST", "/v1/predictions", body)
        assert status == 201, prediction
        return str(prediction["id"])

    def status_of(self, prediction_id: str) -> str:
        status, prediction = self.request("GET", f"/v1/predictions/{prediction_id}")
        assert status == 200, prediction
        return str(prediction["status"])

    def wait_for_status(self, prediction_id: str, *wanted: str, timeout_s: float = 150) -> str:
        reached = ""

        def there() -> bool:
            nonlocal reached
            with suppress(OSError, AssertionError, http.client.HTTPException):  # while a server restarts
                reached = self.status_of(prediction_id)
            return reached in wanted

        eventually(there, timeout_s, lambda: f"{prediction_id} is {reached}, not {wanted}\n{self.output}")
        return reached

    def role(self, name: str) -> psutil.Process | None:
        """The process of a role, by what `ps` shows."""
        for process in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                words = process.cmdline()
                if name in words or (words or [""])[0].endswith(f"/{name}"):
                    return process
        return None

    def workers(self, model: str = "worker") -> list[psutil.Process]:
        """All of them, or those of a model."""
        found = []
        for process in psutil.Process(self.process.pid).children():
            with suppress(psutil.Error):
                if {"worker", model} <= set(process.cmdline()):
                    found.append(process)
        return found


def processes_of(folder: Path) -> list[psutil.Process]:
    """Every living process that belongs to a run in `folder`: it names the folder in its words or settings."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid == os.getpid() or process.status() == psutil.STATUS_ZOMBIE:
                continue
            belongs = str(folder) in " ".join(process.cmdline())
            if not belongs:
                with suppress(psutil.AccessDenied):
                    belongs = str(folder) in process.environ().get("MODELS", "")
            if belongs:
                found.append(process)
    return found


@contextmanager
def own_folder() -> Iterator[Path]:
    """A new folder, whose runs must leave no process behind.

    Not pytest's tmp_path: each new run of pytest takes others' access to those away, and root's Postgres is one.
    """
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as name:
        path = Path(name).resolve()
        yield path
        assert processes_of(path) == [], "a process was left behind"


@contextmanager
def up(folder: Path, *options: str, **more: Any) -> Iterator[RunningUp]:
    """`darkroom up`, ready, and gone with all its processes at the end."""
    with RunningUp(folder, *options, **more) as running:
        running.wait_until_ready()
        yield running


def darkroom(*words: str) -> str:
    """What the command says on stdout."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *words], cwd=REPOSITORY, env=env, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def get_bytes(url: str) -> tuple[bytes, str]:
    with urllib.request.urlopen(url, timeout=30) as answer:  # noqa: S310 (our own service)
        return answer.read(), answer.headers["Content-Type"]
