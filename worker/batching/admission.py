"""Which attempts may join the batch: does sharing pay, does it fit into memory, and who has waited long enough.

Attempts are admitted by priority, then by age, and none is skipped. Two more rules apply:

- **Sharing must pay.** One more drawing joins if the shared step is clearly cheaper than two separate steps: it may add
  at most PAYS of what its own step costs alone. On a GPU that one image fills, sharing only delays everybody.
- **A long drawing delays a shorter one only so long.** The delay is at most the time that the long drawing takes alone,
  plus the step that is under way. Then the shorter one takes its slot. The long one keeps its latents and goes on when
  a slot is free, before all younger attempts. "Shorter" means that less is left to do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from storage.workers.step_costs import NOTHING, Load, load_of
from worker.attempts.attempt import Attempt
from worker.batching.step_costs import StepCosts
from worker.engine import Memory

# Another process on the same GPU may have freed its memory by then.
TRY_LARGER_AFTER_S = 600.0


class Admission:
    """Decides for one model on one device. One forward never holds more than `max_images`."""

    def __init__(self, costs: StepCosts, *, max_images: int) -> None:
        self.costs = costs
        self._max_images = max_images
        self._too_large: tuple[int, float] | None = None  # pixels that ran out of memory, until when

    def may_join(self, attempt: Attempt, batch: Sequence[Attempt], memory: Memory | None) -> bool:
        """Whether it may join this batch. An empty batch takes anything."""
        if not batch:
            return True
        if attempt.must_be_alone or any(other.must_be_alone for other in batch):
            return False
        return self._admits(load_of_all(batch), load_of(attempt.parameters), memory)

    def slots_for(self, each: Load, batch: Sequence[Attempt], memory: Memory | None) -> int:
        """How many more drawings of this load could join the batch now."""
        if any(attempt.must_be_alone for attempt in batch):
            return 0
        load, slots = load_of_all(batch), 0
        while load == NOTHING or self._admits(load, each, memory):
            load, slots = load + each, slots + 1
        return slots

    def may_replace(self, batch: Sequence[Attempt], waiting: Attempt, memory: Memory | None) -> Attempt | None:
        """Whose slot a waiting drawing may take: the longest one that has delayed it for too long."""
        if waiting.must_be_alone or any(drawn.must_be_alone for drawn in batch):
            return None
        left = self.seconds_left(waiting)
        candidates = [
            drawn
            for drawn in batch
            if drawn.priority <= waiting.priority
            and self.seconds_left(drawn) > left
            and waiting.delay_caused_by_s.get(drawn.id, 0.0) > self.seconds_alone(drawn)
            and self._may_swap(batch, drawn, waiting, memory)
        ]
        return max(candidates, key=self.seconds_left, default=None)

    def seconds_alone(self, attempt: Attempt) -> float:
        """How long all of its steps take in a batch of one."""
        return attempt.steps * (self.costs.estimate(load_of(attempt.parameters)) or 0.0)

    def seconds_left(self, attempt: Attempt) -> float:
        """How long its remaining steps take in a batch of one."""
        return (attempt.steps - attempt.steps_done) * (self.costs.estimate(load_of(attempt.parameters)) or 0.0)

    def ran_out_of_memory(self, load: Load) -> None:
        """Stay below this load for TRY_LARGER_AFTER_S."""
        self._too_large = (load.pixels, time.monotonic() + TRY_LARGER_AFTER_S)

    def _may_swap(self, batch: Sequence[Attempt], drawn: Attempt, waiting: Attempt, memory: Memory | None) -> bool:
        load = load_of_all([other for other in batch if other is not drawn] + [waiting])
        return load.images <= max(self._max_images, load_of_all(batch).images) and self._fits(load, memory)

    def _admits(self, load: Load, more: Load, memory: Memory | None) -> bool:
        together = load + more
        return together.images <= self._max_images and self._fits(together, memory) and self.costs.pays(load, more)

    def _fits(self, load: Load, memory: Memory | None) -> bool:
        if self._too_large is not None:
            pixels, until = self._too_large
            if time.monotonic() > until:
                self._too_large = None
            elif load.pixels >= pixels:
                return False
        if memory is None:
            return True
        peak = self.costs.peak_bytes(load)
        return peak is None or peak <= memory.free


def load_of_all(attempts: Sequence[Attempt]) -> Load:
    """The load of one step of all of them."""
    return sum((load_of(attempt.parameters) for attempt in attempts), NOTHING)
