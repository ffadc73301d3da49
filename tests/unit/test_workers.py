"""The workers of `darkroom up`: who is started, sent away, and started again; with processes that do nothing."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cli.host.demand.watch import DemandWatch
from cli.host.host import IDLE_EXIT_S, STANDBY_EXIT_S, default_idle_exit_s
from cli.host.standby import StandbyRules
from cli.host.worker import LOADING_AT_MOST_S
from cli.host.workers import EXIT_NOT_LOADED, SWITCH_AFTER_S, Workers
from cli.processes import start_child
from cli.supervision.log_stream import LogStream
from cli.supervision.stale_processes import ProcessRecord
from storage.workers.demand import Demand
from worker.standby import STAND_BY, WAKE_UP

ONE = Demand(waiting=1, processing=0)


class Place:
    """One place for a worker. `ends_with`: the exit code of the next that is started; None: it stays."""

    def __init__(self, folder: Path, standby: StandbyRules | None = None) -> None:
        self.ends_with: int | None = None
        self.started: list[str] = []
        self.watch = DemandWatch("", look_every_s=3600)  # never started: its demand is the test's
        self.workers = Workers(
            1,
            ["a/a", "b/b"],
            self._launch,
            self.watch,
            ProcessRecord(folder),
            LogStream(io.StringIO()),
            standby=standby,
        )

    def _launch(self, model: str, place: int) -> subprocess.Popen[bytes]:
        self.started.append(model)
        program = "import time; time.sleep(60)" if self.ends_with is None else f"raise SystemExit({self.ends_with})"
        with ignoring_orders():
            return start_child([sys.executable, "-c", program], env={})

    def tick(self, **demand: Demand) -> None:
        self.watch.demand = {f"{name}/{name}": work for name, work in demand.items()}
        self.workers.tick()

    def wait_until_empty(self) -> None:
        deadline = time.monotonic() + 30
        while self.workers.running:
            assert time.monotonic() < deadline
            self.tick()
            time.sleep(0.01)

    def is_leaving(self) -> bool:
        return self.workers.running[1].leaving

    def end(self) -> None:
        for worker in self.workers.all:
            worker.child.kill()
            worker.child.process.wait()
            worker.child.exit_code()


@contextmanager
def ignoring_orders() -> Iterator[None]:
    """What is started meanwhile isn't ended by the signals of a host: a real worker handles them."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (STAND_BY, WAKE_UP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    yield made
    made.end()


@pytest.fixture
def place_with_standby(tmp_path: Path) -> Iterator[Place]:
    """Idle workers stand by at once, one at most."""
    made = Place(tmp_path, StandbyRules(0.0, 1, ["a/a", "b/b"], lambda place: ""))
    yield made
    made.end()


def test_a_worker_is_stopped_for_another_model_when_its_turn_is_over(
    place: Place,
) -> None:
    place.tick(a=ONE)
    worker = place.workers.running[1]
    worker.started_at -= SWITCH_AFTER_S
    place.tick(a=ONE, b=ONE)
    assert not place.is_leaving(), "it still loads"
    place.watch.ready = {worker.child.process.pid}
    place.tick(a=ONE, b=ONE)
    assert not place.is_leaving(), "it has been ready for a moment"
    assert worker.ready_at is not None
    worker.ready_at -= SWITCH_AFTER_S
    place.tick(a=ONE, b=ONE)
    assert place.is_leaving()
    place.workers.running[1].child.process.wait(timeout=30)
    place.tick(a=Demand(waiting=60, processing=0, oldest_wait_s=600), b=ONE)
    assert place.started == ["a/a", "b/b"], "the place was freed for b"


def test_one_that_loads_for_ever_is_stopped_for_another_model(place: Place) -> None:
    place.tick(a=ONE)
    place.workers.running[1].started_at -= LOADING_AT_MOST_S
    place.tick(a=ONE, b=ONE)
    assert place.is_leaving()


def test_one_that_waits_for_nothing_makes_place_at_once(place: Place) -> None:
    place.tick(a=ONE)
    place.tick(b=ONE)
    assert place.is_leaving()


def test_a_model_that_could_not_be_loaded_sends_nobody_away_until_it_did_well(place: Place) -> None:
    place.ends_with = EXIT_NOT_LOADED
    for _ in range(2):
        place.workers._models["a/a"].start_again_at = 0.0
        place.tick(a=ONE)
        place.wait_until_empty()
    place.ends_with = None
    place.tick(b=ONE)
    place.workers._models["a/a"].start_again_at = 0.0
    place.tick(a=ONE)
    assert place.started == ["a/a", "a/a", "b/b"]
    assert not place.is_leaving(), "b has nothing to do, but a would most likely not be loaded"

    place.workers.running[1].child.kill()
    place.wait_until_empty()
    place.ends_with = 0
    place.tick(a=ONE)
    place.wait_until_empty()
    place.ends_with = None
    place.workers._models["b/b"].start_again_at = 0.0
    place.tick(b=ONE)
    place.tick(a=ONE)
    assert place.is_leaving(), "its failures are forgotten"


def test_an_idle_worker_is_not_told_to_stand_by_while_its_model_has_work_waiting(place_with_standby: Place) -> None:
    place = place_with_standby
    place.tick(a=ONE)
    worker = place.workers.running[1]
    place.watch.signed_in = place.watch.ready = place.watch.idle = {worker.pid}
    place.tick(a=ONE)
    assert worker.stands_by is None, "it is about to claim what waits"
    place.tick()
    assert worker.stands_by


def test_a_worker_that_may_stand_by_stays_for_longer_before_it_ends() -> None:
    able = StandbyRules(1.0, 1, ["a/a"], lambda place: "")
    assert default_idle_exit_s("a/a", able) == STANDBY_EXIT_S
    assert default_idle_exit_s("b/b", able) == IDLE_EXIT_S, "its weights can't be moved"
    assert default_idle_exit_s("a/a", StandbyRules(1.0, 0, ["a/a"], lambda place: "")) == IDLE_EXIT_S
    assert default_idle_exit_s("a/a", None) == IDLE_EXIT_S


def test_an_idle_worker_stands_by_also_when_all_places_for_that_are_taken(place_with_standby: Place) -> None:
    place = place_with_standby
    place.tick(a=ONE)
    first = place.workers.running[1]
    place.watch.signed_in = place.watch.ready = place.watch.idle = {first.pid}
    place.tick()
    place.watch.signed_in = place.watch.ready = place.watch.idle = set()
    place.watch.standing_by = {first.pid}
    place.tick(b=ONE)
    second = place.workers.running[1]
    place.watch.signed_in = place.watch.ready = place.watch.idle = {second.pid}
    place.tick()
    assert second.stands_by
    assert first.leaving, "it has stood by longest"
