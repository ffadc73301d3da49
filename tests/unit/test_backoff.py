"""Waits that grow."""

from __future__ import annotations

from storage.backoff import Backoff


def test_each_wait_is_twice_the_one_before_up_to_the_longest() -> None:
    backoff = Backoff(0.5, at_most_s=5.0)
    assert [backoff.next_s() for _ in range(6)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_another_factor_can_be_chosen() -> None:
    backoff = Backoff(1.0, at_most_s=100.0, factor=3.0)
    assert [backoff.next_s() for _ in range(4)] == [1.0, 3.0, 9.0, 27.0]


def test_after_a_reset_the_first_wait_is_short_again() -> None:
    backoff = Backoff(1.0, at_most_s=8.0)
    for _ in range(10):
        backoff.next_s()
    backoff.reset()
    assert [backoff.next_s() for _ in range(2)] == [1.0, 2.0]


def test_the_first_wait_is_no_longer_than_the_longest_and_many_waits_do_not_overflow() -> None:
    backoff = Backoff(9.0, at_most_s=4.0)
    assert {backoff.next_s() for _ in range(5_000)} == {4.0}
