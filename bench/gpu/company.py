"""Correctness: the same seed alone and beside others. sgl-project/sglang#28502 tells how that goes wrong elsewhere.

Compared are the latents after all steps, since random weights decode to grey: the signal-to-noise ratio of one set
against another, 20 · log10(peak-to-peak / root mean square of the difference). What bfloat16 itself costs is
the yardstick: the same drawing by float32 weights.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from bench.gpu.subject import Subject
from bench.gpu.table import Table


def measure(subject: Subject) -> Table:
    table = Table(
        "The same seed alone and in company",
        [
            "drawing",
            "beside",
            "largest difference of a latent",
            "PSNR of the latents, dB",
            "largest difference of a pixel",
        ],
    )
    engine = subject.engine()
    small, large = subject.sides
    for side in subject.sides:
        other = large if side == small else small
        one = subject.asked(side, seed=7)
        reference, pixels = draw(engine, [one])
        company = {
            "the same size, captions of the same length": [subject.asked(side, seed=8, words=11)],
            "the same size, a longer caption": [subject.asked(side, seed=8, words=200)],
            "the same size, a shorter caption": [subject.asked(side, seed=8, words=1)],
            f"a picture of {other}²": [subject.asked(other, seed=8)],
            "three of all kinds": [
                subject.asked(side, seed=8, words=200),
                subject.asked(other, seed=9, words=1),
                subject.asked(side, seed=10, words=60),
            ],
        }
        for title, others in company.items():
            latents, shown = draw(engine, [one, *others])
            _row(table, f"{side}²", title, reference, latents, pixels, shown)
        if side == small:
            with _in_float32(subject):
                latents, shown = draw(subject.engine(), [one])
            _row(table, f"{side}²", "nobody, by float32 weights (the yardstick)", reference, latents, pixels, shown)
    table.notes.append(
        "Differences are between drawings of the same seed. Latents have a standard deviation of about"
        f" {reference.std().item():.2g}."
    )
    return table


def draw(engine: Any, asked: list[Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """The latents and the pixels of the first, drawn in one batch with the others."""
    drawings = [engine.begin(parameters) for parameters in asked]
    while drawings[0].steps_done < drawings[0].steps:
        engine.step(drawings, lambda: None)
    image = engine.decode(drawings[0])()[0]
    return drawings[0].latents[0].float().cpu(), torch.tensor(list(image.tobytes()), dtype=torch.float32)


def psnr(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Decibels; infinite if they are equal."""
    error = (reference - other).pow(2).mean().sqrt().item()
    span = (reference.max() - reference.min()).item()
    return math.inf if error == 0 else 20 * math.log10(span / error)


def _row(
    table: Table,
    drawing: str,
    beside: str,
    reference: torch.Tensor,
    latents: torch.Tensor,
    pixels: torch.Tensor,
    shown: torch.Tensor,
) -> None:
    largest = (reference - latents).abs().max().item()
    ratio = psnr(reference, latents)
    difference = (pixels - shown).abs().max().item()
    table.rows.append(
        [
            drawing,
            beside,
            f"{largest:.2g}",
            "equal" if math.isinf(ratio) else f"{ratio:.1f}",
            f"{difference:.0f} of 255",
        ]
    )
    table.figures[f"{drawing}.{beside}.psnr"] = min(ratio, 999.0)


@contextmanager
def _in_float32(subject: Subject) -> Iterator[None]:
    kept = subject.pipeline.transformer
    subject.pipeline.transformer = copy.deepcopy(kept).float()
    try:
        yield
    finally:
        subject.pipeline.transformer = kept
