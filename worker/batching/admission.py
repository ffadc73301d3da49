"""Who may join the drawings on the device: what pays, what fits, and who must not be held up any longer.

The order is priority, then age, and nobody is skipped. Two rules stand beside it:

- **It pays.** One more drawing shares the device where a step together costs clearly less than two steps apart: where
  its company adds at most PAYS of what it costs alone. On a GPU that one picture fills, sharing only delays everyone.
- **Nobody is held up for long.** A drawing holds a shorter one up for at most the time that it takes alone (and the
  step that is being taken): then the shorter one takes its place, and it goes on from its latents when a place is
  free, before all that are younger. "Shorter" is less left to do than the other has.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from worker.batching.commission import Commission
from worker.batching.step_costs import NOTHING, Load, StepCosts, load_of
from worker.engine import Memory

# Published for Z-Image-Turbo on an H800: at 1024² a second picture adds 0.86 of a step alone, at 512² 0.58.
PAYS = 0.8
# The first steps of a new shape are slow for reasons of their own; one of them must not decide.
ENOUGH_SAMPLES = 4
# What a neighbour on the same GPU took may be free again.
TRY_LARGER_AFTER_S = 600.0


class Admission:
    """Decides for one model on one device. `max_images` is the most in one forward, whatever was learned."""

    def __init__(self, costs: StepCosts, *, max_images: int) -> None:
        self.costs = costs
        self._max_images = max_images
        self._too_much: tuple[int, float] | None = None  # pixels that ran out of memory, and until when it's believed

    def may_join(self, commission: Commission, batch: Sequence[Commission], memory: Memory | None) -> bool:
        """Whether it may be drawn beside those. An empty device takes anything."""
        if not batch:
            return True
        if commission.must_be_alone or any(other.must_be_alone for other in batch):
            return False
        return self._admits(load_of_all(batch), load_of(commission.parameters), memory)

    def slots_for(self, batch: Sequence[Commission], like: Load, memory: Memory | None) -> int:
        """How many more drawings of that load could begin now."""
        if any(commission.must_be_alone for commission in batch):
            return 0
        load, places = load_of_all(batch), 0
        while load == NOTHING or self._admits(load, like, memory):
            load, places = load + like, places + 1
        return places

    def may_replace(self, batch: Sequence[Commission], waiting: Commission, memory: Memory | None) -> Commission | None:
        """Whose place a waiting drawing may take: the longest one that has held it up for too long."""
        if waiting.must_be_alone or any(drawn.must_be_alone for drawn in batch):
            return None
        left = self.seconds_left(waiting)
        candidates = [
            drawn
            for drawn in batch
            if drawn.priority <= waiting.priority
            and self.seconds_left(drawn) > left
            and waiting.delay_caused_by_s.get(drawn.id, 0.0) > self.seconds_alone(drawn)
            and self._may_stand_in(batch, drawn, waiting, memory)
        ]
        return max(candidates, key=self.seconds_left, default=None)

    def seconds_alone(self, commission: Commission) -> float:
        """How long all of its steps take without company."""
        return commission.steps * (self.costs.estimate(load_of(commission.parameters)) or 0.0)

    def seconds_left(self, commission: Commission) -> float:
        """How long the steps that it still needs take without company."""
        return (commission.steps - commission.steps_done) * (self.costs.estimate(load_of(commission.parameters)) or 0.0)

    def ran_out_of_memory(self, load: Load) -> None:
        """Stay below this load for a while."""
        self._too_much = (load.pixels, time.monotonic() + TRY_LARGER_AFTER_S)

    def _may_stand_in(
        self, batch: Sequence[Commission], drawn: Commission, waiting: Commission, memory: Memory | None
    ) -> bool:
        load = load_of_all([other for other in batch if other is not drawn] + [waiting])
        return load.images <= max(self._max_images, load_of_all(batch).images) and self._fits(load, memory)

    def _admits(self, load: Load, more: Load, memory: Memory | None) -> bool:
        together = load + more
        return together.images <= self._max_images and self._fits(together, memory) and self._pays(load, more)

    def _fits(self, load: Load, memory: Memory | None) -> bool:
        if self._too_much is not None:
            pixels, believed_until = self._too_much
            if time.monotonic() > believed_until:
                self._too_much = None
            elif load.pixels >= pixels:
                return False
        if memory is None:
            return True
        peak = self.costs.peak_bytes(load)
        return peak is None or peak <= memory.free

    def _pays(self, load: Load, more: Load) -> bool:
        together = self.costs.seconds(load + more)
        if together is None or 0 < self.costs.samples(load + more) < ENOUGH_SAMPLES:
            return self.costs.samples(load) > 0  # go one drawing beyond what is known, and learn
        alone, before = self.costs.estimate(more), self.costs.estimate(load)
        assert alone is not None and before is not None  # noqa: PT018 (something larger was observed)
        return together - before <= PAYS * alone


def load_of_all(commissions: Sequence[Commission]) -> Load:
    """The load of one step of all of them."""
    return sum((load_of(commission.parameters) for commission in commissions), NOTHING)
