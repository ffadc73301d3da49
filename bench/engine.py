"""Mean latency under Poisson arrivals: one at a time, batches that run to their end, and steps that are shared.

    python -m bench.engine [--requests 120] [--rounds 3] [--folder models/pocket]

All are the same scheduler on the same weights: "none" admits one drawing; "batches" lets nobody join midway, and is
otherwise the step engine, so that nothing but the policy differs; "pipeline" is diffusers' own call with a list of
prompts, as Darkroom runs every pipeline but Z-Image's; "steps" is what the worker does. Capacity is what "none"
reaches on 8-step drawings, measured first. Latency runs from arrival to the decoded picture. In each round all get the
same arrivals; figures and ratios are medians of the rounds.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImagePipeline

from bench.command import command_line, publish
from bench.report import machine
from storage.catalog import DeviceSettings, Model
from storage.predictions.parameters import Parameters
from storage.workers.step_costs import Load
from tests.engine.playing import attempt_of
from worker.attempts.attempt import Attempt
from worker.batching.admission import Admission
from worker.batching.scheduler import BatchScheduler
from worker.batching.step_costs import StepCosts
from worker.engine import load_engine
from worker.engine.loading.placement import set_up_on_device
from worker.engine.pipeline import PipelineEngine

SIDE = 128


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


def whole_pipeline(folder: Path) -> PipelineEngine:
    """diffusers' ZImagePipeline as it is, with the decoder's memory laid out as the engine's loading does it."""
    pipeline = ZImagePipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    set_up_on_device(pipeline, DeviceSettings(), torch.device("cpu"))
    return PipelineEngine(pipeline, device=torch.device("cpu"))


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


def run(
    engine: Any,
    steps: Sequence[int],
    gaps_s: Sequence[float],
    *,
    max_images: int,
    costs: StepCosts,
    side: int = SIDE,
) -> float:
    """The mean latency of these arrivals."""
    typical = Parameters("", side, side, 8, 0.0, 0)
    latencies = Latencies()
    scheduler = BatchScheduler(engine, Admission(costs, max_images=max_images), latencies, typical=typical)
    drawing = threading.Thread(target=scheduler.run)
    drawing.start()
    try:
        for number, (count, gap_s) in enumerate(zip(steps, gaps_s, strict=True)):
            time.sleep(gap_s)
            attempt = attempt_of("a red circle", number=number, steps=count, size=side)
            latencies.arrived_at[attempt.id] = time.monotonic()
            scheduler.add(attempt)
        while len(latencies.seconds) < len(steps) and drawing.is_alive():
            time.sleep(0.01)
    finally:
        scheduler.leave_by(time.monotonic())
        drawing.join()
    return statistics.fmean(latencies.seconds)


def main() -> None:
    options = command_line(__doc__)
    options.add_argument("--requests", type=int, default=120)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--folder", type=Path, default=Path("models/pocket"))
    asked = options.parse_args()
    before = machine()
    engine = load_engine(Model(name="bench/engine", source=str(asked.folder), dtype="float32"), device="cpu")
    torch.set_num_threads(2)
    ways: dict[str, tuple[Any, int]] = {
        "none": (engine, 1),
        "batches": (RunsToTheEnd(engine), 8),
        "pipeline": (whole_pipeline(asked.folder), 8),
        "steps": (engine, 8),
    }
    learned = {name: StepCosts() for name in ways}
    for name, (used, max_images) in ways.items():  # each knows its device before it is timed
        run(used, [8] * 24, [0.0] * 24, max_images=max_images, costs=learned[name])
    began = time.monotonic()
    run(engine, [8] * 24, [0.0] * 24, max_images=1, costs=learned["none"])
    alone_s = (time.monotonic() - began) / 24
    lines = [
        f"One 8-step drawing alone takes {alone_s:.3f} s. {asked.requests} requests a round, {asked.rounds} rounds."
    ]
    chance = random.Random(1)
    for title, long_share, load in (
        ("8 steps, 1.3 x capacity", 0.0, 1.3),
        ("70 % 8 and 30 % 32 steps, 0.8 x capacity", 0.3, 0.8),
    ):
        means: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(asked.rounds):
            steps = [32 if chance.random() < long_share else 8 for _ in range(asked.requests)]
            mean_gap_s = alone_s * statistics.fmean(steps) / 8 / load
            gaps_s = [chance.expovariate(1 / mean_gap_s) for _ in steps]
            for name, (used, max_images) in ways.items():
                means[name].append(run(used, steps, gaps_s, max_images=max_images, costs=learned[name]))
        lines += ["", f"| {title} | mean latency, s | steps / this | rounds |", "|---|---|---|---|"]
        for name, seconds in means.items():
            ratio = statistics.median(ours / theirs for ours, theirs in zip(means["steps"], seconds, strict=True))
            lines.append(f"| {name} | {statistics.median(seconds):.2f} | {ratio:.2f} | {_listed(seconds)} |")
    known = [learned["steps"].seconds(Load(images, images * SIDE * SIDE)) for images in range(1, 9)]
    lines += ["", f"A step of 1 to 8 drawings takes {_listed([each or 0.0 for each in known], digits=3)} s."]
    publish("engine", "\n".join(lines), before, write=asked.write)


def _listed(seconds: Sequence[float], *, digits: int = 2) -> str:
    return ", ".join(f"{each:.{digits}f}" for each in seconds)


if __name__ == "__main__":
    main()
