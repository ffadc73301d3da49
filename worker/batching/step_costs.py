"""What a denoising step costs on this device, learned from the steps of real drawings."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from storage.workers.step_costs import Load, StepCost, estimate, pays, seconds_of

# A step that was slower than usual had a special reason (warm-up, a busy machine), so it counts little. A faster one
# shows what the device can do.
WEIGHT_OF_SLOWER = 0.1
WEIGHT_OF_QUICKER = 0.5


class StepCosts:
    """Seconds and peak memory of a step, by load. The drawing thread writes; other threads may read."""

    def __init__(self, known: Iterable[StepCost] = ()) -> None:
        self._lock = threading.Lock()
        self._known = {Load(cost.images, cost.pixels): cost for cost in known}
        self._changed: set[Load] = set()

    def observe(self, load: Load, seconds: float, peak_bytes: int | None = None) -> None:
        """Record a step of this load: its time and its peak memory."""
        with self._lock:
            old = self._known.get(load)
            if old is None:
                new = StepCost(load.images, load.pixels, seconds, peak_bytes, samples=1)
            else:
                weight = WEIGHT_OF_QUICKER if seconds < old.seconds else WEIGHT_OF_SLOWER
                new = StepCost(
                    load.images,
                    load.pixels,
                    seconds=old.seconds + weight * (seconds - old.seconds),
                    peak_bytes=max(filter(None, (old.peak_bytes, peak_bytes)), default=None),
                    samples=old.samples + 1,
                )
            self._known[load] = new
            self._changed.add(load)

    def seconds(self, load: Load) -> float | None:
        """A step's time: as recorded, or interpolated between two records; None above the largest one."""
        with self._lock:
            return seconds_of(self._known, load)

    def estimate(self, load: Load) -> float | None:
        """Like `seconds`, but above the largest record it scales with the pixels. None if nothing was recorded."""
        with self._lock:
            return estimate(self._known, load)

    def pays(self, load: Load, more: Load) -> bool:
        """Whether a drawing of load `more` should share the steps of `load`."""
        with self._lock:
            return pays(self._known, load, more)

    def peak_bytes(self, load: Load) -> int | None:
        """The memory that a step of this load needs: as recorded, or by the highest use per pixel that was recorded."""
        with self._lock:
            if (cost := self._known.get(load)) and cost.peak_bytes is not None:
                return cost.peak_bytes
            rates = [cost.peak_bytes / cost.pixels for cost in self._known.values() if cost.peak_bytes is not None]
        return int(max(rates) * load.pixels) if rates else None

    def largest_image_alone(self, below: Load) -> Load | None:
        """The largest load with fewer pixels than `below` that was ever drawn."""
        with self._lock:
            smaller = [load for load in self._known if load.pixels < below.pixels]
        return max(smaller, key=lambda load: load.pixels, default=None)

    def take_changes(self) -> list[StepCost]:
        """What was learned since the last call."""
        with self._lock:
            changes = [self._known[load] for load in self._changed]
            self._changed.clear()
        return changes
