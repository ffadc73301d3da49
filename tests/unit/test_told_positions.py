"""How often a listener hears its position in the queue."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from api.live import events
from api.live.events import LiveEvent, _Story
from api.live.queue_position import QueuePositions, Waiting
from api.live.watch import QUIET, Snapshot
from storage.postgres.clock import DatabaseClock


class Moving:
    """A queue in which the prediction is one place further each time it is asked."""

    def __init__(self, position: int) -> None:
        self._position = position

    def of(self, _: object) -> Waiting:
        self._position -= 1
        return Waiting(self._position, is_loading=False, starts_at=None, clock=cast("DatabaseClock", None))


class Listener:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, position: int) -> None:
        self._now = 1000.0
        monkeypatch.setattr(events, "time", SimpleNamespace(monotonic=lambda: self._now))
        self._story = _Story(cast("Any", None), cast("QueuePositions", Moving(position + 1)))

    def after(self, seconds: float, seen: Any = QUIET) -> list[LiveEvent]:
        self._now += seconds
        return list(self._story.tell(seen))


WAITING = Snapshot({"id": "a", "model": "m", "status": "starting"}, [])


@pytest.mark.parametrize(("position", "again_after_s"), [(5, 2), (100, 2), (500, 10), (2000, 40), (50_000, 60)])
def test_a_position_is_told_again_the_less_often_the_further_back_it_is(
    monkeypatch: pytest.MonkeyPatch, position: int, again_after_s: float
) -> None:
    listener = Listener(monkeypatch, position)
    [first] = listener.after(0, WAITING)
    assert first.data["position"] == position
    assert listener.after(again_after_s - 0.5) == []
    [again] = listener.after(0.5)
    assert again.data["position"] == position - 1


def test_a_row_that_moved_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    listener = Listener(monkeypatch, 50_000)
    assert len(listener.after(0, WAITING)) == 1
    assert len(listener.after(0.1, WAITING)) == 1
