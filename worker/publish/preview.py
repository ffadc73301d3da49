"""A picture that is not done yet, small enough for a notification."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 5_000  # Postgres notifies at most 8,000; in base64 this is 6,668
SIDES = (160, 112, 80, 48)  # pixels, tried one after the other
QUALITY = 60


def encode_preview(image: Image) -> bytes | None:
    """WebP of at most 5,000 bytes; None where even the smallest is larger."""
    for side in SIDES:
        small = image.copy()
        small.thumbnail((side, side))
        buffer = io.BytesIO()
        small.save(buffer, "WEBP", quality=QUALITY)
        if buffer.tell() <= MAX_BYTES:
            return buffer.getvalue()
    return None
