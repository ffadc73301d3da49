"""Workers that stand by: their device is free for another model, and they wake for the next prediction.

With the blank engine, whose weights weigh nothing: everything around the weights is the real thing
(`tests/engine/test_standby.py` moves real ones). `make test-races` runs 50 races of each kind.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cli.processes import start_child
from storage.postgres.database import Connection, connect
from storage.postgres.notify import IDLE_CHANNEL
from storage.postgres.procrastinate import queue_name_of
from storage.settings import Settings
from tests.integration.test_hosts import RunningHost, host
from tests.integration.worker_running import environment, start_worker
from tests.support.eventually import eventually
from tests.support.making import MODEL, count, submit_one

RACES = int(os.environ.get("DARKROOM_TEST_RACES", "2"))
OTHER = "darkroom/other"
CATALOG = """
[models."{name}"]
engine = "blank"
defaults = {{ width = 64, height = 64 }}
blank = {{ step_s = 0.01 }}
"""
STANDBY_S = 0.3
PATIENT_S = 150.0
pytestmark = pytest.mark.timeout(300 + 20 * RACES)


def catalog(folder: Path, *models: str) -> str:
    path = folder / "several-models.toml"
    path.write_text("".join(CATALOG.format(name=name) for name in models or (MODEL, OTHER)))
    return str(path)


@pytest.fixture
def running(settings: Settings, conn: Connection, tmp_path: Path) -> Iterator[RunningHost]:
    """A host with one place, whose workers stand by soon."""
    options = ("--workers", "1", "--idle-exit", "600", "--no-warm-parent")
    more: dict[str, Any] = {"MODELS": catalog(tmp_path), "STANDBY_AFTER_S": str(STANDBY_S)}
    with host(settings, tmp_path / "a", *options, **more) as found:
        yield found


def submit(conn: Connection, model: str = MODEL) -> None:
    submit_one(conn, model=model, queue_name=queue_name_of(model))


def drawn(conn: Connection) -> int:
    return count(conn, "predictions", "status = 'succeeded'")


def wait_for(conn: Connection, number: int) -> None:
    eventually(lambda: drawn(conn) == number, timeout_s=PATIENT_S)


def test_an_idle_worker_stands_by_and_the_next_prediction_wakes_it(running: RunningHost, conn: Connection) -> None:
    for number in range(1, 4):
        submit(conn)
        wait_for(conn, number)
        eventually(lambda: count(conn, "workers", "state = 'standby'") == 1, timeout_s=PATIENT_S)
    eventually(lambda: (running.count("engine.rests"), running.count("engine.woken")) == (3, 2))
    assert running.count("worker.ready") == 1
    assert count(conn, "demand_leases") == 0


def test_a_host_learns_at_once_that_a_worker_is_idle(settings: Settings, conn: Connection, tmp_path: Path) -> None:
    """Drawings so short that no heartbeat falls into one: it would never be seen to draw."""
    process = start_child(
        [sys.executable, "-m", "cli.main", "worker", "--host-decides"],
        env=environment(settings, tmp_path, step_s=0.001) | {"STANDBY_AFTER_S": "600"},
        output=subprocess.DEVNULL,
    )
    try:
        with connect(settings.direct_url, application_name="test") as listener:
            listener.execute(f"LISTEN {IDLE_CHANNEL}")
            for _ in range(4):
                submit(conn)
                wait_for_idle(listener)
    finally:
        process.terminate()
        assert process.wait(60) == 0
    assert drawn(conn) == 4


def wait_for_idle(listener: Connection) -> None:
    for told in listener.notifies(timeout=PATIENT_S):
        if json.loads(told.payload)["state"] == "idle":
            return
    raise AssertionError(f"no worker was idle within {PATIENT_S} s")


def test_two_models_share_a_place_by_turns_without_being_loaded_again(running: RunningHost, conn: Connection) -> None:
    for number in range(1, 7):
        submit(conn, (MODEL, OTHER)[number % 2])
        wait_for(conn, number)
        assert count(conn, "workers", "state IN ('idle', 'drawing')") <= 1
    assert running.count("worker.ready") == 2
    assert running.end() == 0
    assert count(conn, "workers") == 0


def test_of_more_models_than_may_stand_by_the_oldest_ends(settings: Settings, conn: Connection, tmp_path: Path) -> None:
    third = "darkroom/third"
    more: dict[str, Any] = {
        "MODELS": catalog(tmp_path, MODEL, OTHER, third),
        "STANDBY_AFTER_S": "600",
        "STANDBY_WORKERS": "1",
    }
    with host(settings, tmp_path / "a", "--workers", "1", "--idle-exit", "600", "--no-warm-parent", **more) as running:
        for number, model in enumerate((MODEL, OTHER, third, OTHER), start=1):
            submit(conn, model)
            wait_for(conn, number)
        eventually(lambda: running.count("prediction.succeeded") == 4)  # all lines before it are here, too
        assert running.count("worker.ready") == 3
        eventually(lambda: count(conn, "workers", f"model = '{MODEL}'") == 0, timeout_s=PATIENT_S)
        assert count(conn, "workers") == 2


def test_what_is_submitted_while_a_worker_goes_to_standby_is_drawn(running: RunningHost, conn: Connection) -> None:
    for race in range(1, RACES + 1):
        submit(conn)
        wait_for(conn, race)
        time.sleep(random.uniform(0, 2 * STANDBY_S))
    assert running.count("worker.ready") == 1
    assert count(conn, "predictions", "attempt <> 1 OR crashes <> 0") == 0


@pytest.mark.parametrize("standby_s", ["", "600"], ids=["ending", "standing by"])
def test_what_is_submitted_while_workers_are_switched_is_drawn(
    settings: Settings, conn: Connection, tmp_path: Path, standby_s: str
) -> None:
    """One place: the worker of the one model makes place for the other while its own next prediction comes in."""
    more: dict[str, Any] = {"MODELS": catalog(tmp_path)} | ({"STANDBY_AFTER_S": standby_s} if standby_s else {})
    options = ("--workers", "1", "--idle-exit", "600", "--switch-after", "0", "--no-warm-parent")
    with host(settings, tmp_path / "a", *options, **more) as running:
        submit(conn)
        wait_for(conn, 1)
        for race in range(1, RACES + 1):
            before, after = (MODEL, OTHER) if race % 2 else (OTHER, MODEL)
            submit(conn, after)
            time.sleep(random.uniform(0, 0.6))
            submit(conn, before)
            submit(conn, after)
            wait_for(conn, 1 + 3 * race)
        assert count(conn, "predictions", "crashes <> 0") == 0
        if standby_s:
            assert running.count("worker.ready") == 2


def test_a_worker_without_a_host_stands_by_and_wakes_by_itself(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    process = start_worker(settings, tmp_path, STANDBY_AFTER_S="0.2")
    log = tmp_path / "worker.log"
    try:
        for number in range(1, 3):
            submit(conn)
            wait_for(conn, number)
            eventually(lambda: log.read_text().count("engine.rests") == number, timeout_s=PATIENT_S)  # noqa: B023
        # It draws at once, so it counts as one that is idle.
        eventually(lambda: count(conn, "workers", "state = 'idle'") == 1, timeout_s=PATIENT_S)
    finally:
        process.terminate()
        assert process.wait(60) == 0
        process.stdout and process.stdout.close()
