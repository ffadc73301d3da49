"""How far the same drawing may differ alone and in a batch, in bfloat16.

On some CPUs, a matrix product rounds a row differently in a batch of another size, as on a GPU (docs/engine.md).
bfloat16 itself is 41 to 45 dB (latents) and 45 to 58 dB (pixels) away from float32 for the models of these tests. A
difference must be smaller than that. That neighbours don't leak into a drawing is shown in float32, within 1e-5.
"""

from __future__ import annotations

from typing import Any

import numpy as np

LATENTS_DB = 45.0
PIXELS_DB = 48.0


def psnr_db(one: Any, other: Any, *, peak: float) -> float:
    """The peak signal-to-noise ratio of two arrays or tensors of the same shape; infinite if they are equal."""
    ours, theirs = (np.asarray(each, dtype=np.float64) for each in (one, other))
    assert ours.shape == theirs.shape
    error = float(np.mean((ours - theirs) ** 2))
    return float("inf") if error == 0 else 10 * float(np.log10(peak**2 / error))


def assert_same_latents(ours: Any, theirs: Any) -> None:
    """Equal up to the rounding of bfloat16. The standard deviation of `ours` is the peak."""
    assert psnr_db(ours.float(), theirs.float(), peak=float(ours.float().std())) > LATENTS_DB


def assert_same_pixels(ours: Any, theirs: Any) -> None:
    assert psnr_db(ours, theirs, peak=255) > PIXELS_DB
