"""Which part of a start image is used: the worker crops it to the shape of the drawing.

`worker/engine/input_images/pictures.py` does it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """The part around the centre that is kept, of the width and of the height: 1.0 is all of it."""

    width: float = 1.0
    height: float = 1.0

    def box(self, width: int, height: int) -> tuple[int, int, int, int]:
        """The pixels of it, of a picture of that size: left, upper, right, lower."""
        left, upper = int(width * (1 - self.width) / 2), int(height * (1 - self.height) / 2)
        return left, upper, width - left, height - upper


def kept_of(image: tuple[int, int], drawn: tuple[int, int]) -> Kept:
    """What is kept of an image of that size, (width, height), for a drawing of that size."""
    across, down = image[0] * drawn[1], image[1] * drawn[0]
    return Kept(width=down / across) if across > down else Kept(height=across / down)


def crop_note(image: tuple[int, int], drawn: tuple[int, int]) -> str:
    """A line for `logs`, or "" where nothing is cut off."""
    kept = kept_of(image, drawn)
    width, height = round(image[0] * kept.width), round(image[1] * kept.height)
    if (width, height) == image:
        return ""
    return (
        f"The start image was cropped from {image[0]}x{image[1]} to {width}x{height}, around its centre: the drawing "
        f"is {drawn[0]}x{drawn[1]}\n"
    )
