"""Since when each model has waited for a place, and the places that were freed for one."""

from __future__ import annotations

import math
from collections.abc import Mapping

from storage.workers.demand import Demand


class WaitingModels:
    """Times are seconds of one clock that never goes back."""

    def __init__(self) -> None:
        self.reserved: list[str] = []  # a place was freed for each of them, and no worker is started yet
        self._left_at: dict[str, float] = {}

    def waited_s(self, demand: Mapping[str, Demand], now: float) -> dict[str, float]:
        """A model waits from its oldest waiting prediction on, but not from before its last worker ended.

        So a model whose worker had to leave goes to the end of the line, however old its backlog is.
        """
        return {
            model: min(work.oldest_wait_s, now - self._left_at.get(model, -math.inf)) for model, work in demand.items()
        }

    def worker_ended(self, model: str, makes_place_for: str | None, now: float) -> None:
        self._left_at[model] = now
        if makes_place_for is not None:
            self.reserved.append(makes_place_for)

    def worker_started(self, model: str) -> None:
        if model in self.reserved:
            self.reserved.remove(model)

    def a_place_is_left(self) -> None:
        """Every model that wanted a place could have one: nothing has to be reserved."""
        self.reserved.clear()
