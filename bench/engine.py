"""Latency under Poisson arrivals of mixed sizes and steps: one at a time, batches, diffusers' batches, shared steps.

    python -m bench.engine [--requests 48] [--rounds 3] [--loads 0.5 0.8 1.3] [--folder models/pocket] [--write]

All have the same weights. "One at a time" and "batches to their end" are the worker's scheduler and step engine with
another policy, so that nothing else differs. "Diffusers' batches" is what a stack around diffusers does: it takes up
to eight waiting requests of the same size and steps, the oldest first, and calls the pipeline with the list of their
prompts. "Shared steps" is what the worker does. Capacity is what the engine reaches one at a time, measured first.
Latency runs from arrival to the decoded picture. In each round all get the same arrivals, and they take turns.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, median
from typing import Any

import torch
from diffusers import ZImagePipeline

from bench.command import CommandLine, publish
from bench.report import machine
from storage.catalog import DeviceSettings, Model
from storage.predictions.parameters import Parameters
from tests.engine.playing import attempt_of
from worker.attempts.attempt import Attempt
from worker.batching.admission import Admission
from worker.batching.scheduler import BatchScheduler
from worker.batching.step_costs import StepCosts
from worker.engine import load_engine
from worker.engine.loading.placement import set_up_on_device

OURS = "shared steps"
MAX_IMAGES = 8
SIDES, STEPS = (128, 192, 256), (8, 20)
MIX = ((SIDES, (0.7, 0.2, 0.1)), (STEPS, (0.7, 0.3)))  # and how often each is asked for


@dataclass(frozen=True)
class Kind:
    """What is asked for. Drawings are square."""

    side: int
    steps: int


KINDS = [Kind(side, steps) for side in SIDES for steps in STEPS]


@dataclass(frozen=True)
class Arrival:
    """A request, so long after the one before it."""

    kind: Kind
    after_s: float


class RunsToTheEnd:
    """An engine that could be joined midway, used as if it could not."""

    joins_midway = False

    def __init__(self, engine: Any) -> None:
        self._engine = engine

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def batch_key(self, parameters: Parameters) -> object:
        return parameters.num_inference_steps

    def step(self, drawings: Sequence[Any], after_each: Callable[[], None]) -> None:
        while drawings[0].steps_done < drawings[0].steps:
            self._engine.step(drawings, after_each)


class DiffusersBatches:
    """diffusers' ZImagePipeline, called with a list of prompts."""

    def __init__(self, folder: Path) -> None:
        self._pipeline = ZImagePipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
        # The decoder's memory is laid out as the engine's loading does it.
        set_up_on_device(self._pipeline, DeviceSettings(), torch.device("cpu"))
        self._pipeline.set_progress_bar_config(disable=True)

    def latencies_s(self, arrivals: Sequence[Arrival]) -> list[float]:
        waiting: queue.Queue[tuple[Kind, float] | None] = queue.Queue()
        found: list[float] = []
        drawing = threading.Thread(target=self._draw_all, args=(waiting, found))
        drawing.start()
        for arrival in arrivals:
            time.sleep(arrival.after_s)
            waiting.put((arrival.kind, time.monotonic()))
        waiting.put(None)
        drawing.join()
        if len(found) != len(arrivals):
            raise SystemExit("diffusers' pipeline failed: see above")
        return found

    def _draw_all(self, waiting: queue.Queue[tuple[Kind, float] | None], found: list[float]) -> None:
        """Until None came."""
        here: list[tuple[Kind, float]] = []
        is_over = False
        while here or not is_over:
            while not is_over and (not here or not waiting.empty()):
                came = waiting.get()
                if came is None:
                    is_over = True
                else:
                    here.append(came)
            if not here:
                return
            kind = here[0][0]
            batch = [each for each in here if each[0] == kind][:MAX_IMAGES]
            self.draw(kind, len(batch))
            found += [time.monotonic() - arrived_at for _, arrived_at in batch]
            for each in batch:
                here.remove(each)

    def draw(self, kind: Kind, count: int) -> None:
        self._pipeline(
            ["a red circle"] * count,
            width=kind.side,
            height=kind.side,
            num_inference_steps=kind.steps,
            guidance_scale=0.0,
            generator=[torch.Generator().manual_seed(seed) for seed in range(count)],
        )


@dataclass
class Latencies:
    """Outcomes, timed."""

    arrived_at: dict[str, float] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)

    def on_step(self, attempt: Attempt, preview: object) -> None: ...

    def on_drawn(self, attempt: Attempt, fetch_images: Callable[[], object]) -> None:
        fetch_images()
        self.seconds.append(time.monotonic() - self.arrived_at[attempt.id])

    def on_failed(self, attempt: Attempt, reason: str) -> None:
        raise AssertionError(reason)

    def on_lost(self, attempt: Attempt) -> None:
        raise AssertionError

    on_unfinished = on_lost


@dataclass
class Scheduled:
    """The worker's scheduler with an engine."""

    engine: Any
    max_images: int
    typical_side: int = SIDES[0]
    costs: StepCosts = field(default_factory=StepCosts)

    def latencies_s(self, arrivals: Sequence[Arrival]) -> list[float]:
        typical = Parameters("", self.typical_side, self.typical_side, STEPS[0], 0.0, 0)
        found = Latencies()
        admission = Admission(self.costs, max_images=self.max_images)
        scheduler = BatchScheduler(self.engine, admission, found, typical=typical)
        drawing = threading.Thread(target=scheduler.run)
        drawing.start()
        try:
            for number, arrival in enumerate(arrivals):
                time.sleep(arrival.after_s)
                kind = arrival.kind
                attempt = attempt_of("a red circle", number=number, steps=kind.steps, size=kind.side)
                found.arrived_at[attempt.id] = time.monotonic()
                scheduler.add(attempt)
            while len(found.seconds) < len(arrivals) and drawing.is_alive():
                time.sleep(0.01)
        finally:
            scheduler.leave_by(time.monotonic())
            drawing.join()
        return found.seconds


def ways(folder: Path) -> dict[str, Scheduled | DiffusersBatches]:
    engine = load_engine(Model(name="bench/engine", source=str(folder), dtype="float32"), device="cpu")
    return {
        "one at a time": Scheduled(engine, 1),
        "batches to their end": Scheduled(RunsToTheEnd(engine), MAX_IMAGES),
        "diffusers' batches": DiffusersBatches(folder),
        OURS: Scheduled(engine, MAX_IMAGES),
    }


def alone_s(way: Scheduled, times: int) -> dict[Kind, float]:
    """How long each kind takes with nothing else to draw: the median."""
    return {kind: median(way.latencies_s([Arrival(kind, 0.0)])[0] for _ in range(times)) for kind in KINDS}


def some_kinds(chance: random.Random, count: int) -> list[Kind]:
    return [Kind(*(chance.choices(each, weights)[0] for each, weights in MIX)) for _ in range(count)]


def p95(seconds: Sequence[float]) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(0.95 * len(seconds)))]


def table(found: dict[tuple[float, str], list[list[float]]]) -> str:
    """Markdown. A ratio is the median of the rounds'; the best of the others is the one with the smallest mean."""
    lines = ["| arrivals, x capacity | | mean, s | p95, s | shared steps ÷ this | means of the rounds |"]
    lines += ["|---:|---|---:|---:|---:|---|"]
    aims = []
    for load in dict.fromkeys(load for load, _ in found):
        means = {way: [fmean(each) for each in rounds] for (here, way), rounds in found.items() if here == load}
        ratios = {way: median(a / b for a, b in zip(means[OURS], theirs, strict=True)) for way, theirs in means.items()}
        for way, each in means.items():
            listed = ", ".join(f"{mean:.2f}" for mean in each)
            late = median(p95(seconds) for seconds in found[load, way])
            lines.append(f"| {load:g} | {way} | {median(each):.2f} | {late:.2f} | {ratios[way]:.2f} | {listed} |")
        best = min((way for way in means if way != OURS), key=lambda way: median(means[way]))
        aims.append(f"{ratios[best]:.2f} of {best} at {load:g} x capacity")
    return "\n".join([*lines, "", f"Mean latency of shared steps beside the best other: {'; '.join(aims)}."])


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--requests", 48, quick=4, explanation="of each way in each round")
    options.size("--rounds", 3, quick=1)
    options.size("--loads", [0.5, 0.8, 1.3], quick=[1.3], explanation="as multiples of capacity")
    options.size("--learning", 24, quick=2, explanation="drawings that teach the scheduler its costs")
    options.add_argument("--folder", type=Path, default=Path("models/pocket"))
    asked = options.read()
    before = machine()
    chance = random.Random(1)
    by_name = ways(asked.folder)
    torch.set_num_threads(1 if asked.quick else 2)  # two wait for each other where others use the cores
    for way in by_name.values():
        way.latencies_s([Arrival(kind, 0.0) for kind in some_kinds(chance, asked.learning)])
    one_at_a_time = by_name["one at a time"]
    assert isinstance(one_at_a_time, Scheduled)
    took_s = alone_s(one_at_a_time, asked.rounds)
    expected_s = fmean(took_s[kind] for kind in some_kinds(random.Random(0), 10_000))
    found: dict[tuple[float, str], list[list[float]]] = {}
    for load in asked.loads:
        for number in range(asked.rounds):
            arrivals = [
                Arrival(kind, chance.expovariate(load / expected_s)) for kind in some_kinds(chance, asked.requests)
            ]
            for name in sorted(by_name, reverse=bool(number % 2)):
                seconds = by_name[name].latencies_s(arrivals)
                found.setdefault((load, name), []).append(seconds)
                print(f"{load:g} x capacity, {name}: mean {fmean(seconds):.2f} s", flush=True)
    listed = ", ".join(f"{kind.side}² in {kind.steps} steps {took_s[kind]:.2f} s" for kind in KINDS)
    found = {(load, name): found[load, name] for load in asked.loads for name in by_name}
    how = f"Alone, {listed}. {asked.requests} requests a round, {asked.rounds} rounds."
    publish("engine", f"{how}\n\n{table(found)}", before, write=asked.write)


if __name__ == "__main__":
    main()
