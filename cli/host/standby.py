"""Workers that stand by: their weights are in main memory, and other workers use their device meanwhile.

The host decides who does: a worker that has been idle for long enough, or that has to make place for another model. It
tells them with signals (`worker/standby.py`), and they say in their row of the table `workers` what they have done. An
order is repeated until it shows there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from cli.host.worker import Worker
from worker.standby import STAND_BY, WAKE_UP

REPEAT_AFTER_S = 2.0
# A worker that has been told to stand by and still draws after so long is told to end instead.
STAND_BY_WITHIN_S = 120.0


@dataclass(frozen=True)
class StandbyRules:
    """`models`: those whose weights can be moved. `device_of`: the device of a place; a worker can't change it."""

    after_s: float
    at_most: int
    models: Collection[str]
    device_of: Callable[[int], str]

    def allow(self, model: str) -> bool:
        """Whether workers of this model may stand by."""
        return self.at_most > 0 and model in self.models


class StandingBy:
    """The workers of a host that stand by. Main thread only."""

    def __init__(self, rules: StandbyRules | None) -> None:
        """None: no worker stands by."""
        self._rules = rules
        self.workers: list[Worker] = []  # the one that has stood by longest comes first

    def is_due(self, worker: Worker, now: float) -> bool:
        """Whether it has been idle for so long that it should stand by, and may.

        If all places for that are taken, the oldest one ends for it.
        """
        if self._rules is None or worker.leaving or worker.idle_since is None:
            return False
        return now - worker.idle_since >= self._rules.after_s and self._rules.allow(worker.model)

    def can_take(self, worker: Worker) -> bool:
        """Whether it can stand by instead of ending. If all places for that are taken, the oldest one ends for it."""
        return self._rules is not None and self._rules.allow(worker.model) and worker.ready_at is not None

    def order(self, worker: Worker, *, makes_place_for: str | None = None) -> None:
        """Tell a worker to stand by as soon as it has finished what it draws."""
        assert self._rules is not None
        staying = [each for each in self.workers if not each.leaving]
        to_be_woken = next((each for each in reversed(staying) if each.model == makes_place_for), None)
        if to_be_woken is not None:
            staying.remove(to_be_woken)
        if len(staying) >= self._rules.at_most:
            staying[0].leaving = True
            staying[0].child.terminate()
        worker.leaving, worker.makes_place_for = True, makes_place_for
        worker.first_ordered_at = time.monotonic()
        self._send(worker, stands_by=True)

    def add(self, worker: Worker) -> None:
        """It stands by now."""
        worker.leaving, worker.makes_place_for, worker.ready_at, worker.idle_since = False, None, None, None
        self.workers.append(worker)

    def wake(self, model: str, places: Sequence[int]) -> tuple[Worker, int] | None:
        """Wake the one of this model that stood by last, in one of these places; None if there is none for them."""
        for worker in reversed(self.workers):
            place = None if worker.leaving or worker.model != model else self._place_for(worker, places)
            if place is not None:
                self.workers.remove(worker)
                worker.place, worker.started_at = place, time.monotonic()
                self._send(worker, stands_by=False)
                return worker, place
        return None

    def repeat_orders(self, running: Collection[Worker], standing_by: Collection[int]) -> None:
        """`standing_by`: the pids of those that say that they do."""
        now = time.monotonic()
        for worker in running:
            if worker.stands_by is None:
                continue
            if worker.stands_by and now - worker.first_ordered_at >= STAND_BY_WITHIN_S:
                worker.stands_by = None
                worker.child.terminate()
            elif worker.stands_by != (worker.pid in standing_by) and now - worker.ordered_at >= REPEAT_AFTER_S:
                self._send(worker, stands_by=worker.stands_by)

    def _place_for(self, worker: Worker, places: Sequence[int]) -> int | None:
        assert self._rules is not None
        device = self._rules.device_of(worker.place)
        return next((place for place in places if self._rules.device_of(place) == device), None)

    def _send(self, worker: Worker, *, stands_by: bool) -> None:
        worker.stands_by, worker.ordered_at = stands_by, time.monotonic()
        if worker.child.process.poll() is None:
            worker.child.process.send_signal(STAND_BY if stands_by else WAKE_UP)
