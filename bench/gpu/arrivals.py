"""What sharing steps gains on this device, and how idle it is while pictures are encoded and stored.

The worker's own scheduler; Poisson arrivals as in bench/engine.py.
"""

from __future__ import annotations

import io
import random
import statistics
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.engine import Arrival, Kind, Latencies, RunsToTheEnd, Scheduled
from bench.gpu.subject import STEPS, Subject
from bench.gpu.table import Table
from storage.workers.step_costs import Load
from tests.engine.playing import attempt_of
from worker.attempts.attempt import Attempt
from worker.batching.admission import Admission
from worker.batching.scheduler import BatchScheduler
from worker.batching.step_costs import StepCosts


def measure(subject: Subject, *, seconds: float = 15.0) -> Table:
    """`seconds`: about how long each way takes for each kind of arrivals."""
    side = subject.sides[0]
    engine = subject.engine()
    ways = {
        "one at a time": Scheduled(engine, 1, side),
        "batches that run to their end": Scheduled(RunsToTheEnd(engine), 8, side),
        "shared steps": Scheduled(engine, 8, side),
    }
    for way in ways.values():  # each knows its device before it is timed
        way.latencies_s([Arrival(Kind(side, STEPS), 0.0)] * 10)
    alone_s = STEPS * (ways["one at a time"].costs.seconds(Load(1, side * side)) or 1.0)
    requests = max(8, min(40, int(seconds / alone_s)))
    table = Table(f"Mean seconds from arrival to picture, {side}²", ["arrivals", *ways])
    chance = random.Random(1)
    for title, long_share, load in (
        ("8 steps, 0.8 × capacity", 0.0, 0.8),
        ("70 % 8 and 30 % 32 steps, 0.8 × capacity", 0.3, 0.8),
    ):
        steps = [32 if chance.random() < long_share else STEPS for _ in range(requests)]
        gap_s = alone_s * statistics.fmean(steps) / STEPS / load
        arrivals = [Arrival(Kind(side, count), chance.expovariate(1 / gap_s)) for count in steps]
        means = [statistics.fmean(way.latencies_s(arrivals)) for way in ways.values()]
        table.rows.append([title, *(f"{mean:.2f}" for mean in means)])
        for name, mean in zip(ways, means, strict=True):
            table.figures[f"{title}.{name}"] = mean
    idle = _idle_share(subject, engine, ways["shared steps"].costs)
    table.figures["idle_share"] = idle
    table.notes += [
        f"Capacity is what one at a time reaches: {1 / alone_s:.2f} pictures a second. {requests} requests a row.",
        f"With 24 pictures waiting, each encoded as PNG and stored in 0.3 s on other threads, the device waits for"
        f" {100 * idle:.1f} % of the time (outside of begin, step and decode).",
    ]
    return table


class _Timed:
    """Adds up the time within the engine."""

    def __init__(self, engine: Any) -> None:
        self._engine = engine
        self.busy_s = 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._engine, name)
        return self._timed(found) if name in ("begin", "step", "decode") else found

    def _timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any) -> Any:
            began = time.perf_counter()
            try:
                return call(*given)
            finally:
                self.busy_s += time.perf_counter() - began

        return timed


class _Storing(Latencies):
    """Pictures are encoded and "stored" beside the drawing, as the worker's publisher does."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = ThreadPoolExecutor(4)

    def on_drawn(self, attempt: Attempt, fetch_images: Callable[[], Any]) -> None:
        self.pool.submit(self._store, fetch_images)

    def _store(self, fetch_images: Callable[[], Any]) -> None:
        for image in fetch_images():
            image.save(io.BytesIO(), "PNG")
            time.sleep(0.3)
        self.seconds.append(0.0)


def _idle_share(subject: Subject, engine: Any, costs: StepCosts, *, count: int = 24) -> float:
    timed, outcomes = _Timed(engine), _Storing()
    scheduler = BatchScheduler(timed, Admission(costs, max_images=8), outcomes, typical=subject.asked(subject.sides[0]))
    for number in range(count):
        scheduler.add(attempt_of("a red circle", number=number, steps=STEPS, size=subject.sides[0]))
    drawing = threading.Thread(target=scheduler.run)
    began = time.perf_counter()
    drawing.start()
    while len(outcomes.seconds) + outcomes.pool._work_queue.qsize() < count - 4 and drawing.is_alive():
        time.sleep(0.002)
    wall_s, busy_s = time.perf_counter() - began, timed.busy_s
    scheduler.leave_by(time.monotonic() + 60)
    drawing.join()
    outcomes.pool.shutdown()
    return max(0.0, 1 - busy_s / wall_s)
