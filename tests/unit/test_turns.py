"""Requests that wait for a thread."""

from __future__ import annotations

import threading

import pytest

from api.server.threads import RequestThreads
from api.server.turns import Turns


def test_owners_take_turns_and_each_keeps_its_order() -> None:
    turns: Turns[str] = Turns()
    for item in ("a1", "a2", "a3", "b1", "c1", "b2"):
        turns.add(item[0], item)
    assert len(turns) == 6
    assert [turns.take() for _ in range(6)] == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert len(turns) == 0
    with pytest.raises(IndexError):
        turns.take()


def test_a_request_waits_for_one_request_of_each_other_owner_and_not_for_all_of_them() -> None:
    pool = RequestThreads(1, 4, patience_s=60)
    running, done = threading.Event(), threading.Event()
    answered: list[str] = []

    def hold() -> None:
        running.set()
        done.wait(30)

    futures = [pool.submit(hold)]
    assert running.wait(30)
    futures += [pool.submit_for("flood", answered.append, f"flood {n}") for n in range(100)]
    futures.append(pool.submit_for("other", answered.append, "other"))
    done.set()
    for future in futures:
        future.result(30)
    pool.shutdown()
    assert answered.index("other") == 1
