"""When what waits will begin: the drawing loop of the workers, played through with measured times.

Each step costs what steps of such a load cost on that device; drawings share steps as
`worker/batching/admission.py` lets them. If something was not measured, the answer is None.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count

from storage.predictions.parameters import Parameters
from storage.workers.step_costs import NOTHING, Load, StepCost, estimate, load_of, pays


@dataclass
class Job:
    """A prediction that waits or is drawn."""

    steps_left: int
    load: Load
    key: object  # engines that run batches to their end draw equal keys together

    @classmethod
    def of(cls, parameters: Parameters, *, steps_done: int = 0) -> Job:
        steps = max(1, parameters.num_inference_steps - steps_done)
        key = (parameters.width, parameters.height, parameters.num_inference_steps, parameters.guidance_scale)
        return cls(steps, load_of(parameters), key)


@dataclass
class ForecastWorker:
    """A worker that draws, or will in `ready_in_s`."""

    ready_in_s: float
    costs: Mapping[Load, StepCost]
    joins_midway: bool
    batch: list[Job] = field(default_factory=list)

    @property
    def load(self) -> Load:
        return sum((job.load for job in self.batch), NOTHING)

    def admits(self, job: Job, max_images: int) -> bool:
        if not self.batch:
            return True
        if not self.joins_midway and (self.batch[0].key != job.key or self.batch[0].steps_left != job.steps_left):
            return False
        together = self.load + job.load
        return together.images <= max_images and pays(self.costs, self.load, job.load)

    def draw_until_one_ends(self) -> float:
        """The seconds that it takes; infinite where steps were never measured."""
        steps = min(job.steps_left for job in self.batch)
        step_s = estimate(self.costs, self.load)
        for job in self.batch:
            job.steps_left -= steps
        self.batch = [job for job in self.batch if job.steps_left > 0]
        return math.inf if step_s is None else steps * step_s


def seconds_until_starts(
    waiting: Sequence[Job], workers: Sequence[ForecastWorker], *, max_images: int
) -> list[float | None]:
    """For each that waits, in the order of claims, when a worker will take it; None if unknown."""
    order = count()  # of workers that are ready at the same moment
    ready = [(worker.ready_in_s, next(order), worker) for worker in workers]
    heapify(ready)
    starts: list[float | None] = []
    while len(starts) < len(waiting) and ready:
        now, _, worker = heappop(ready)
        if math.isinf(now):  # and so are all others
            break
        while len(starts) < len(waiting) and worker.admits(waiting[len(starts)], max_images):
            worker.batch.append(waiting[len(starts)])
            starts.append(now)
        if worker.batch:
            heappush(ready, (now + worker.draw_until_one_ends(), next(order), worker))
    return starts + [None] * (len(waiting) - len(starts))
