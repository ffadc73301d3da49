"""The stages of a worker's life, and what a stop signal does at each of them."""

from __future__ import annotations

import threading
import time

import pytest

from worker.lifecycle import Lifecycle, Stage

GRACE_S = 100.0


@pytest.fixture
def drawing() -> Lifecycle:
    lifecycle = Lifecycle(grace_s=GRACE_S)
    assert lifecycle.begin_drawing()
    return lifecycle


def test_a_worker_starts_and_then_draws() -> None:
    lifecycle = Lifecycle(grace_s=GRACE_S)
    before = lifecycle.stage
    lifecycle.begin_drawing()
    assert [before, lifecycle.stage] == [Stage.STARTING, Stage.DRAWING]
    assert not lifecycle.time_is_up()


def test_a_worker_that_is_told_to_stop_while_it_starts_never_draws() -> None:
    lifecycle = Lifecycle(grace_s=GRACE_S)
    assert lifecycle.stop() is Stage.STARTING
    assert lifecycle.stage is Stage.LEFT
    assert not lifecycle.begin_drawing()
    assert lifecycle.stage is Stage.LEFT


def test_the_first_signal_gives_the_grace_period_and_the_second_ends_it(drawing: Lifecycle) -> None:
    assert drawing.stop() is Stage.DRAWING
    assert drawing.stage is Stage.DRAINING
    assert drawing.leave_by == pytest.approx(time.monotonic() + GRACE_S, abs=GRACE_S / 2)
    assert not drawing.time_is_up()
    assert drawing.stop() is Stage.DRAINING
    assert drawing.time_is_up()
    assert drawing.stage is Stage.DRAINING


@pytest.mark.parametrize("at_once", [True, False])
def test_a_worker_may_drain_by_itself(drawing: Lifecycle, at_once: bool) -> None:
    drawing.drain(at_once=at_once)
    assert drawing.stage is Stage.DRAINING
    assert drawing.time_is_up() is at_once


def test_a_signal_s_grace_period_outlasts_the_worker_s_own_wish_to_drain(drawing: Lifecycle) -> None:
    drawing.stop()
    leave_by = drawing.leave_by
    drawing.drain(at_once=True)
    assert drawing.leave_by == leave_by


def test_after_the_end_signals_change_nothing(drawing: Lifecycle) -> None:
    drawing.end()
    assert drawing.stop() is Stage.LEFT
    assert not drawing.begin_drawing()
    assert not drawing.time_is_up()


def test_of_a_signal_and_the_end_of_loading_at_the_same_time_one_wins() -> None:
    """Either the worker draws and the signal makes it drain, or the signal came first and it never draws."""
    for _ in range(200):
        lifecycle = Lifecycle(grace_s=GRACE_S)
        both = threading.Barrier(2)
        found: list[Stage] = []

        def stop(lifecycle: Lifecycle = lifecycle, both: threading.Barrier = both, found: list[Stage] = found) -> None:
            both.wait()
            found.append(lifecycle.stop())

        signal_thread = threading.Thread(target=stop)
        signal_thread.start()
        both.wait()
        draws = lifecycle.begin_drawing()
        signal_thread.join()
        assert found == [Stage.DRAWING if draws else Stage.STARTING]
        assert lifecycle.stage is (Stage.DRAINING if draws else Stage.LEFT)
