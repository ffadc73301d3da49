"""Pictures to draw from: smooth colours and hard masks."""

from __future__ import annotations

import numpy as np
from PIL import Image


def colours(width: int = 64, height: int = 64, seed: int = 0) -> Image.Image:
    """Smooth random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)


def corner(width: int = 64, height: int = 64) -> Image.Image:
    """A mask whose lower right quarter, and a little more, is redrawn: its edge lies between two latents."""
    mask = Image.new("L", (width, height), 0)
    mask.paste(255, (width // 2 - 3, height // 2 - 5, width, height))
    return mask
