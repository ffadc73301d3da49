"""Slots for requests that hold a thread for long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from api.slots import Slots


def test_no_more_are_given_than_there_are_and_each_can_be_taken_again() -> None:
    slots = Slots(2)
    assert [slots.take() for _ in range(3)] == [True, True, False]
    slots.give_back()
    assert slots.taken == 1
    assert [slots.take() for _ in range(2)] == [True, False]


def test_many_threads_take_no_more_than_there_are() -> None:
    slots = Slots(100)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: slots.take(), range(400))) == 100
    assert slots.taken == 100
