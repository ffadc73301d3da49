"""`darkroom up` forks its workers from a warm parent. The blank engine needs no torch, so that parent is warm soon."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.acceptance.running_up import RunningUp, processes_of, up
from tests.support.eventually import eventually

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only"),
    pytest.mark.timeout(300),
]
READY = "workers are forked from now on"


def warm_parent(running: RunningUp) -> psutil.Process:
    found: list[psutil.Process] = []

    def there() -> bool:
        found[:] = [
            child
            for child in psutil.Process(running.process.pid).children()
            if child.status() != psutil.STATUS_ZOMBIE and "warm-parent" in child.cmdline()
        ]
        return bool(found)

    eventually(there, 60, lambda: running.output)
    return found[0]


def wait_until_warm(running: RunningUp, times: int = 1) -> None:
    eventually(lambda: running.output.count(READY) >= times, 90, lambda: running.output)


def is_forked(worker: psutil.Process) -> bool:
    """Its first environment is its parent's."""
    return "OPENBLAS_NUM_THREADS" in worker.environ()


def test_a_worker_is_forked_draws_and_is_the_supervisors_own_child(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        wait_until_warm(running)
        prediction = running.submit("test/slow", num_inference_steps=6)
        running.wait_for_status(prediction, "processing")
        (worker,) = running.workers()
        assert is_forked(worker)
        assert worker.cmdline()[2:5] == ["worker", "--model", "test/slow"]
        assert os.getsid(worker.pid) == worker.pid
        running.wait_for_status(prediction, "succeeded")
        assert any("worker-1|" in line and "prediction.succeeded" in line for line in running.lines)
        parent = warm_parent(running)
        assert parent.num_threads() == 1
        assert parent.children() == []
        assert running.interrupt() == 0
        eventually(lambda: processes_of(tmp_path) == [])


def test_a_forked_worker_that_is_killed_is_missed_at_once_and_its_work_is_drawn_by_another(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        wait_until_warm(running)
        prediction = running.submit("test/slow", num_inference_steps=5)
        running.wait_for_status(prediction, "processing")
        (worker,) = running.workers()
        worker.kill()
        running.wait_for_status(prediction, "succeeded")
        assert "worker-1 (test/slow) was killed by SIGKILL" in running.output


def test_a_worker_outlives_its_warm_parent_and_the_next_one_is_forked_again(tmp_path: Path) -> None:
    with up(tmp_path, "--idle-exit", "0") as running:
        wait_until_warm(running)
        prediction = running.submit("test/slow", num_inference_steps=10)
        running.wait_for_status(prediction, "processing")
        (worker,) = running.workers()
        warm_parent(running).send_signal(signal.SIGTERM)
        running.wait_for_status(prediction, "succeeded")
        assert running.request("GET", f"/v1/predictions/{prediction}")[1]["metrics"]["step_count"] == 10
        wait_until_warm(running, times=2)
        eventually(lambda: not worker.is_running())
        prediction = running.submit("test/slow", num_inference_steps=5)
        running.wait_for_status(prediction, "processing")
        assert all(is_forked(worker) for worker in running.workers())


def test_a_frozen_warm_parent_costs_one_start_and_is_replaced(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        wait_until_warm(running)
        warm_parent(running).send_signal(signal.SIGSTOP)
        running.wait_for_status(running.submit(), "succeeded", timeout_s=90)
        assert "started without the warm parent" in running.output
        wait_until_warm(running, times=2)


def test_the_warm_parent_starts_again_when_what_it_has_read_has_changed(tmp_path: Path) -> None:
    with up(tmp_path) as running:
        wait_until_warm(running)
        catalog = tmp_path / "models.toml"
        catalog.write_text(catalog.read_text() + "\n# changed\n")
        wait_until_warm(running, times=2)
        running.wait_for_status(running.submit(), "succeeded")


def test_nothing_that_was_forked_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with up(tmp_path, env={"GRACE_SECONDS": "1"}) as running:
        wait_until_warm(running)
        prediction = running.submit("test/slow", num_inference_steps=50)
        running.wait_for_status(prediction, "processing")
        parent, (worker,) = warm_parent(running), running.workers()
        running.kill()
        eventually(lambda: not is_alive(parent) and not is_alive(worker))


@pytest.mark.parametrize("how", ["option", "setting"])
def test_it_can_be_turned_off(tmp_path: Path, how: str) -> None:
    options = ["--no-warm-parent"] if how == "option" else []
    env = {"WARM_PARENT": "false"} if how == "setting" else {}
    with up(tmp_path, *options, env=env) as running:
        running.wait_for_status(running.submit(), "succeeded", timeout_s=90)
        assert not any("warm-parent" in child.cmdline() for child in psutil.Process(running.process.pid).children())
        assert READY not in running.output


def test_the_command_is_not_one_to_type(tmp_path: Path) -> None:
    running = RunningUp(tmp_path, make=[sys.executable, "-m", "cli.main", "warm-parent"])
    with running:
        assert running.wait_for_exit() == 2
        assert "it isn't one to type" in running.output


def is_alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False
