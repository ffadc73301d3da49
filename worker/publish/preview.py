"""Previews: an unfinished image, small enough for a notification."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from storage.formats import WEBP

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 5_000  # a NOTIFY holds at most 8,000 bytes; 5,000 are 6,668 in base64
SIDES = (160, 112, 80, 48)  # pixels, tried in this order
QUALITY = 60


def encode_preview(image: Image) -> bytes | None:
    """Return a WebP of at most 5,000 bytes, or None if even the smallest size is larger."""
    for side in SIDES:
        small = image.copy()
        small.thumbnail((side, side))
        buffer = io.BytesIO()
        small.save(buffer, WEBP.pillow, quality=QUALITY)
        if buffer.tell() <= MAX_BYTES:
            return buffer.getvalue()
    return None
