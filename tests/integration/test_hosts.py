"""`darkroom host`, the real command, and two of them on one database. The blank engine needs no torch."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from storage.postgres.database import Connection
from storage.settings import Settings
from tests.conftest import REPOSITORY
from tests.integration.drawn_by_blank import submit_steps
from tests.integration.flaky_proxy import FlakyProxy
from tests.integration.worker_running import environment, rescuing
from tests.support.eventually import eventually
from tests.support.machines import Machine
from tests.support.making import count, submit_one

pytestmark = pytest.mark.timeout(400)
PATIENT_S = 150.0


class RunningHost:
    """The command and its lines so far."""

    def __init__(self, env: dict[str, str], folder: Path, *options: str, on: Machine | None = None) -> None:
        self.lines: list[str] = []
        words = [sys.executable, "-m", "cli.main", "host", "--data", str(folder), *options]
        self.process = subprocess.Popen(
            words if on is None else on.command(words),
            cwd=REPOSITORY,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def count(self, words: str) -> int:
        return sum(words in line for line in list(self.lines))

    def wait_for(self, words: str) -> None:
        eventually(lambda: self.count(words) > 0, timeout_s=PATIENT_S)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(60)
        self._reader.join(10)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(60)  # until its children are gone too: they hold the pipes
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextmanager
def host(settings: Settings, folder: Path, *options: str, step_s: float = 0.05, **more: str) -> Iterator[RunningHost]:
    folder.mkdir(exist_ok=True)
    env = environment(settings, folder, step_s=step_s) | {"GRACE_SECONDS": "1", **more}
    running = RunningHost(env, folder / "run", *options)
    try:
        running.wait_for("draw here for")
        yield running
    finally:
        running.close()
        sys.stderr.write("\n".join(running.lines))


def succeeded(conn: Connection) -> int:
    return count(conn, "predictions", "status = 'succeeded'")


def test_it_starts_a_worker_when_something_waits_listens_nowhere_and_ends_with_all_its_processes(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    with host(settings, tmp_path / "a") as running:
        assert count(conn, "workers") == 0
        submit_one(conn)
        eventually(lambda: succeeded(conn) == 1, timeout_s=PATIENT_S)
        everyone = [psutil.Process(running.process.pid), *psutil.Process(running.process.pid).children(recursive=True)]
        for process in everyone:
            assert [each for each in process.net_connections() if each.status == psutil.CONN_LISTEN] == []
        assert running.end() == 0
        eventually(lambda: not any(process.is_running() for process in everyone))
    assert count(conn, "demand_leases") == count(conn, "workers") == 0


def test_two_hosts_start_one_worker_for_each_prediction(settings: Settings, conn: Connection, tmp_path: Path) -> None:
    with (
        host(settings, tmp_path / "a", "--idle-exit", "0", "--workers", "2") as first,
        host(settings, tmp_path / "b", "--idle-exit", "0", "--workers", "2") as second,
    ):
        for number in range(1, 9):
            submit_one(conn)
            eventually(lambda: succeeded(conn) == number, timeout_s=PATIENT_S)  # noqa: B023 - called in this turn only
            eventually(lambda: count(conn, "workers") == 0, timeout_s=PATIENT_S)
        assert count(conn, "predictions", "attempt <> 1") == 0
    assert first.count("worker.ready") + second.count("worker.ready") == 8


def test_when_a_host_is_killed_in_mid_drawing_the_other_draws(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    with (
        rescuing(settings),
        host(settings, tmp_path / "a", step_s=0.3) as first,
        host(settings, tmp_path / "b", step_s=0.3) as second,
    ):
        submit_steps(conn, 20)
        eventually(lambda: count(conn, "predictions", "status = 'processing' AND logs <> ''") == 1, timeout_s=PATIENT_S)
        eventually(lambda: first.count("prediction.claimed") + second.count("prediction.claimed") == 1)
        drawing, other = (first, second) if first.count("prediction.claimed") else (second, first)
        family = [*psutil.Process(drawing.process.pid).children(recursive=True), psutil.Process(drawing.process.pid)]
        for process in family:
            process.kill()
        eventually(lambda: succeeded(conn) == 1, timeout_s=PATIENT_S)
        other.wait_for("prediction.succeeded")  # the line comes after the row


def test_it_waits_for_postgres_when_it_starts_and_goes_on_when_postgres_was_away(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    with FlakyProxy(settings.database_url) as proxy:
        proxy.is_down.set()
        folder = tmp_path / "a"
        folder.mkdir()
        database = urlsplit(settings.database_url)
        through = f"postgresql://{database.username}@{urlsplit(proxy.url).netloc}{database.path}"
        env = environment(settings, folder, step_s=0.01) | {"DATABASE_URL": through, "DATABASE_DIRECT_URL": ""}
        running = RunningHost(env, folder / "run", "--idle-exit", "0")
        try:
            running.wait_for("Postgres can't be reached, trying again")
            proxy.is_down.clear()
            running.wait_for("draw here for")
            proxy.is_down.set()
            submit_one(conn)
            time.sleep(1.0)
            assert running.process.poll() is None
            proxy.is_down.clear()
            eventually(lambda: succeeded(conn) == 1, timeout_s=PATIENT_S)
            assert running.end() == 0
        finally:
            running.close()


def test_a_machine_without_work_is_turned_off_and_one_that_can_not_be_says_so(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    """A `systemctl` of ours stands in for the real one, which would turn this machine off."""
    programs = tmp_path / "bin"
    programs.mkdir()
    called = tmp_path / "called"
    (programs / "systemctl").write_text(f'#!/bin/sh\necho "$@" >> {called}\necho "no authority" >&2\nexit 1\n')
    (programs / "systemctl").chmod(0o755)
    path = f"{programs}{os.pathsep}{os.environ['PATH']}"
    with host(settings, tmp_path / "a", "--idle-exit", "0", "--power-off", "1", PATH=path) as running:
        running.wait_for("the machine can't be turned off, trying again in a minute: no authority")
        assert called.read_text() == "poweroff\n"


def test_a_second_host_on_the_same_folder_is_refused(settings: Settings, conn: Connection, tmp_path: Path) -> None:
    with host(settings, tmp_path / "a") as running:
        assert running.process.poll() is None
        env = environment(settings, tmp_path / "a", step_s=0.05)
        second = RunningHost(env, tmp_path / "a" / "run")
        try:
            assert second.process.wait(60) == 2
        finally:
            second.close()
        assert second.count("stop it, or choose another folder") == 1
