"""The API's threads: few that work, more that sleep, and nobody waits behind those that hang."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, wait

import pytest

from api.server.threads import RequestThreads, expect_to_sleep

BUSY, MOST = 3, 12
SOON_S = 10.0
LONG_S = 3600.0


@pytest.fixture
def pool() -> Iterator[RequestThreads]:
    made = RequestThreads(BUSY, MOST, patience_s=LONG_S)
    yield made
    made.shutdown()


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Closed until the test opens it; open when it has ended, however it ended."""
    opened = threading.Event()
    yield opened
    opened.set()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def running(futures: list[Future[object]]) -> int:
    return sum(future.running() for future in futures)


def alive() -> int:
    return sum(thread.name == "request" for thread in threading.enumerate())


def asleep(gate: threading.Event) -> bool:
    expect_to_sleep()
    expect_to_sleep()  # counts once
    return gate.wait(SOON_S)


def test_no_more_than_the_busy_ones_run_at_a_time(pool: RequestThreads, gate: threading.Event) -> None:
    futures: list[Future[object]] = [pool.submit(gate.wait, SOON_S) for _ in range(10)]
    until(lambda: running(futures) == BUSY)
    time.sleep(0.05)
    assert running(futures) == alive() == BUSY
    gate.set()
    assert [future.result(SOON_S) for future in futures] == [True] * 10


def test_those_that_sleep_leave_their_place_to_others(pool: RequestThreads, gate: threading.Event) -> None:
    sleeping: list[Future[object]] = [pool.submit(asleep, gate) for _ in range(8)]
    until(lambda: running(sleeping) == 8)
    assert pool.submit(sum, [1, 2]).result(SOON_S) == 3
    assert running(sleeping) == 8
    gate.set()
    wait(sleeping, SOON_S)
    until(lambda: alive() <= BUSY)  # nobody sleeps any more
    assert pool.submit(sum, [1, 2]).result(SOON_S) == 3


def test_there_are_never_more_threads_than_allowed(pool: RequestThreads, gate: threading.Event) -> None:
    sleeping: list[Future[object]] = [pool.submit(asleep, gate) for _ in range(MOST + 5)]
    until(lambda: running(sleeping) == MOST)
    time.sleep(0.05)
    assert running(sleeping) == alive() == MOST
    gate.set()
    assert all(future.result(SOON_S) for future in sleeping)


def test_who_waits_behind_those_that_hang_gets_a_thread(gate: threading.Event) -> None:
    pool = RequestThreads(BUSY, MOST, patience_s=0.02)
    hanging: list[Future[object]] = [pool.submit(gate.wait, SOON_S) for _ in range(BUSY)]
    assert [pool.submit(sum, [1, number]).result(SOON_S) for number in range(20)] == list(range(1, 21))
    assert running(hanging) == BUSY
    gate.set()
    pool.shutdown()


def test_idle_threads_leave_and_come_again() -> None:
    pool = RequestThreads(BUSY, MOST, idle_s=0.02)
    for _ in range(5):
        assert pool.submit(sum, [1, 2]).result(SOON_S) == 3
        until(lambda: alive() == 0)
    pool.shutdown()


def test_what_breaks_is_told_and_breaks_nothing_else(pool: RequestThreads) -> None:
    def leave() -> None:
        raise SystemExit(3)

    assert isinstance(pool.submit(leave).exception(SOON_S), SystemExit)
    assert isinstance(pool.submit(int, "x").exception(SOON_S), ValueError)
    assert pool.submit(sum, [1, 2]).result(SOON_S) == 3


def test_shut_down_it_takes_nothing_and_ends_what_it_has(gate: threading.Event) -> None:
    pool = RequestThreads(1, 1)
    first, second = pool.submit(gate.wait, SOON_S), pool.submit(sum, [1, 2])
    until(first.running)
    pool.shutdown(wait=False)
    with pytest.raises(RuntimeError):
        pool.submit(sum, [1, 2])
    gate.set()
    assert second.result(SOON_S) == 3
    pool.shutdown()
    assert alive() == 0


def test_shut_down_it_can_cancel_what_has_not_begun(gate: threading.Event) -> None:
    pool = RequestThreads(1, 1)
    first, second = pool.submit(gate.wait, SOON_S), pool.submit(sum, [1, 2])
    until(first.running)
    pool.shutdown(wait=False, cancel_futures=True)
    gate.set()
    assert first.result(SOON_S)
    with pytest.raises(CancelledError):
        second.result(SOON_S)


def test_outside_of_it_nothing_sleeps() -> None:
    expect_to_sleep()


@pytest.mark.parametrize("seed", range(5))
def test_everything_is_run_once_and_few_work_at_a_time(pool: RequestThreads, seed: int) -> None:
    chance = random.Random(seed)
    counting = threading.Lock()
    ran: list[int] = []
    working = most_working = 0

    def work(number: int, naps: bool) -> None:
        nonlocal working, most_working
        with counting:
            working += 1
            most_working = max(most_working, working)
            ran.append(number)
        time.sleep(0.0002)
        with counting:
            working -= 1
        if naps:
            expect_to_sleep()
            time.sleep(0.002)

    def offer(numbers: range) -> list[Future[None]]:
        return [pool.submit(work, number, chance.random() < 0.3) for number in numbers]

    offered: list[Future[None]] = []
    offering = [
        threading.Thread(target=lambda at=at: offered.extend(offer(range(at, at + 200)))) for at in range(0, 800, 200)
    ]
    for thread in offering:
        thread.start()
    for thread in offering:
        thread.join()
    assert not wait(offered, SOON_S).not_done
    assert sorted(ran) == list(range(800))
    # One that has slept is done but for its thread, which leaves: it works no more.
    assert most_working <= BUSY
    until(lambda: alive() <= BUSY)
