import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from courier.host_slots import MAX_STAY_AWAY_S, PATIENCE_S, HostSlots, NoPlace


def test_a_host_has_as_many_places_as_it_is_given_and_another_host_its_own() -> None:
    slots = HostSlots(2)
    with ExitStack() as held:
        held.enter_context(slots.place("slow"))
        held.enter_context(slots.place("slow"))
        with pytest.raises(NoPlace), slots.place("slow"):
            pass
        held.enter_context(slots.place("quick"))
    with slots.place("slow"):
        pass


def test_a_place_at_a_quick_host_is_waited_for() -> None:
    slots = HostSlots(1)
    inside = threading.Event()

    def hold_briefly() -> None:
        with slots.place("quick"):
            inside.set()
            time.sleep(PATIENCE_S / 5)

    with ThreadPoolExecutor(1) as thread:
        holding = thread.submit(hold_briefly)
        inside.wait(5)
        with slots.place("quick"):
            pass
        holding.result()


def test_nobody_waits_for_a_place_at_a_slow_host() -> None:
    slots = HostSlots(1)
    with slots.place("slow"):
        time.sleep(PATIENCE_S * 1.2)
        started = time.monotonic()
        for _ in range(20):
            with pytest.raises(NoPlace), slots.place("slow"):
                pass
        assert time.monotonic() - started < PATIENCE_S * 10


def test_the_more_are_turned_away_the_longer_they_stay_away_and_an_idle_host_forgets() -> None:
    slots = HostSlots(1)

    def stay_away_s() -> float:
        with pytest.raises(NoPlace) as turned_away, slots.place("slow"):
            pass
        return turned_away.value.stay_away_s

    with slots.place("slow"):
        time.sleep(PATIENCE_S * 1.2)
        first, *_, last = (stay_away_s() for _ in range(2000))
        assert 1 <= first < 2
        assert last == MAX_STAY_AWAY_S
    with slots.place("slow"):
        time.sleep(PATIENCE_S * 1.2)
        assert stay_away_s() < 2


def test_no_more_than_its_places_are_ever_taken() -> None:
    slots = HostSlots(3)
    inside = 0
    most = 0
    lock = threading.Lock()

    def enter(_: int) -> None:
        nonlocal inside, most
        try:
            with slots.place("host"):
                with lock:
                    inside += 1
                    most = max(most, inside)
                time.sleep(0.002)
                with lock:
                    inside -= 1
        except NoPlace:
            pass

    with ThreadPoolExecutor(12) as threads:
        list(threads.map(enter, range(300)))
    assert most == 3
    assert slots._hosts == {}
