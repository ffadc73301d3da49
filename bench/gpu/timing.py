"""Wall time of work on a device: it is waited for before each reading of the clock."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from bench.gpu.subject import Subject


def median_s(subject: Subject, work: Callable[[], object], *, times: int, warm_up: int = 1) -> float:
    """The median of so many runs, in seconds."""
    for _ in range(warm_up):
        work()
    seconds = []
    for _ in range(times):
        subject.wait()
        began = time.perf_counter()
        work()
        subject.wait()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)


def step_s(subject: Subject, engine: Any, drawings: list[Any], *, times: int = 4) -> float:
    """The median time of a step of these drawings together; they take `times` + 1 steps and are set back."""
    done = [drawing.steps_done for drawing in drawings]
    latents = [drawing.latents for drawing in drawings]

    def one() -> None:
        engine.step(drawings, lambda: None)
        for drawing, steps_done, before in zip(drawings, done, latents, strict=True):
            drawing.steps_done, drawing.latents = steps_done, before

    return median_s(subject, one, times=times)
