"""Slots for requests that hold a thread for long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from api.slots import Slots


def test_no_more_are_given_than_there_are_and_each_can_be_taken_again() -> None:
    slots: Slots[int] = Slots(2)
    assert [slots.take() for _ in range(3)] == [True, True, False]
    slots.give_back()
    assert slots.taken == 1
    assert [slots.take() for _ in range(2)] == [True, False]


def test_many_threads_take_no_more_than_there_are() -> None:
    slots: Slots[int] = Slots(100)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: slots.take(), range(400))) == 100
    assert slots.taken == 100


def test_an_owner_takes_no_more_slots_than_it_leaves_and_without_owners_all_are_taken() -> None:
    slots: Slots[int] = Slots(8)
    assert [slots.take(1) for _ in range(6)] == [True] * 4 + [False] * 2
    assert [slots.take(2) for _ in range(3)] == [True] * 2 + [False]
    assert [slots.take() for _ in range(3)] == [True] * 2 + [False]
    slots.give_back(1)
    assert slots.take(2) is False, "it holds two and one is free"
    assert slots.take(3)
