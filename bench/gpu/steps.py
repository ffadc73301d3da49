"""Seconds a step and a picture, alone and in batches, beside diffusers' own pipeline in the same run."""

from __future__ import annotations

import statistics
import time
from itertools import pairwise
from typing import Any

import torch

from bench.gpu.subject import STEPS, Subject
from bench.gpu.table import Table, ms
from bench.gpu.timing import median_s, step_s

BATCHES = (1, 2, 4, 8)


def measure(subject: Subject) -> Table:
    table = Table(
        "Steps and pictures",
        [
            "size",
            "images in a step",
            "Darkroom, ms a step",
            "diffusers, ms a step",
            "ratio",
            "pictures a second",
            "gain",
        ],
    )
    engine = subject.engine()
    for side in subject.sides:
        decode_s = _decode_s(subject, engine, side)
        alone = 0.0
        for batch in BATCHES:
            drawings: list[Any] = [engine.begin(subject.asked(side, seed=seed)) for seed in range(batch)]
            ours = step_s(subject, engine, drawings)
            theirs = diffusers_step_s(subject, side, batch)
            rate = batch / (STEPS * ours + batch * decode_s)
            alone = alone or rate
            table.rows.append(
                [
                    f"{side}²",
                    str(batch),
                    ms(ours),
                    ms(theirs),
                    f"{ours / theirs:.2f}",
                    f"{rate:.2f}",
                    f"{rate / alone:.2f} ×",
                ]
            )
            table.figures[f"step_s.{side}.{batch}"] = ours
            table.figures[f"diffusers_step_s.{side}.{batch}"] = theirs
    table.notes.append(
        f"A picture is {STEPS} steps and its decoding. Gain: pictures a second, beside one image in a step."
    )
    return table


def diffusers_step_s(subject: Subject, side: int, batch: int, *, steps: int = 5) -> float:
    """The median time between the ends of two steps in `ZImagePipeline.__call__`."""
    ends: list[float] = []

    def on_step(pipeline: Any, step: int, time_step: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        subject.wait()
        ends.append(time.perf_counter())
        return tensors

    subject.pipeline(
        prompt=[subject.asked(side).prompt] * batch,
        width=side,
        height=side,
        num_inference_steps=steps,
        guidance_scale=0.0,
        generator=[torch.Generator("cpu").manual_seed(seed) for seed in range(batch)],
        output_type="latent",
        callback_on_step_end=on_step,
    )
    return statistics.median(later - earlier for earlier, later in pairwise(ends))


def _decode_s(subject: Subject, engine: Any, side: int) -> float:
    drawing = engine.begin(subject.asked(side))
    return median_s(subject, lambda: engine.decode(drawing)(), times=3)
