"""Places for requests that hold a thread for long."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from api.slots import Places


def test_no_more_are_given_than_there_are_and_each_can_be_taken_again() -> None:
    places = Places(2)
    assert [places.take() for _ in range(3)] == [True, True, False]
    places.give_back()
    assert places.taken == 1
    assert [places.take() for _ in range(2)] == [True, False]


def test_many_threads_take_no_more_than_there_are() -> None:
    places = Places(100)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: places.take(), range(400))) == 100
    assert places.taken == 100
