"""The input pictures of a request: resized to the size of the drawing, and kept where the mask is black."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from worker.engine.interface import DrawingFailed, Pictures

if TYPE_CHECKING:
    from PIL.Image import Image

    from storage.predictions.parameters import Parameters


def fit(pictures: Pictures, width: int, height: int) -> Pictures:
    """Cut both to the aspect ratio around their centre, then resize: the image with Lanczos, the mask bilinearly.

    Pictures that have the size already stay as they are. A mask of another size than the image covers all of it.
    """
    from PIL.Image import Resampling
    from PIL.ImageOps import fit as cut_and_resize

    image, mask = pictures.image, pictures.mask
    if mask is not None and mask.size != image.size:
        mask = mask.resize(image.size, Resampling.BILINEAR)
    if image.size == (width, height):
        return Pictures(image, mask, pictures.more)
    return Pictures(
        cut_and_resize(image, (width, height), method=Resampling.LANCZOS),
        None if mask is None else cut_and_resize(mask, (width, height), method=Resampling.BILINEAR),
        pictures.more,
    )


def keeping_the_rest(fetch_images: Callable[[], list[Image]], pictures: Pictures | None) -> list[Image]:
    """The drawn images, with the pixels of the start image where the mask is black. `pictures` are fitted.

    Raises what `fetch_images` raises.
    """
    images = fetch_images()
    if pictures is None or pictures.mask is None:
        return images
    from PIL.Image import composite

    return [composite(drawn, pictures.image, pictures.mask) for drawn in images]


def skipped_steps(parameters: Parameters) -> int:
    """How many of the first steps a start image saves: the noise of what `strength` leaves is where drawing begins.

    The rounding is that of diffusers' image-to-image pipelines for flow matching. At least one step is left. Raises
    DrawingFailed.
    """
    require_strength(parameters)
    steps = parameters.num_inference_steps
    return min(int(max(steps - min(steps * parameters.strength, steps), 0)), steps - 1)


def require_strength(parameters: Parameters) -> None:
    """Raises DrawingFailed where nothing is to be drawn. The API refuses that now; the queue may hold some."""
    if parameters.strength <= 0:
        raise DrawingFailed(f"strength {parameters.strength:g} leaves no step to draw: give a larger one.")


def strength_of_a_step(parameters: Parameters) -> float:
    """`strength`, or what one step needs if it is less: some of diffusers' pipelines would draw nothing then."""
    steps = parameters.num_inference_steps
    least = 1 / steps
    return max(parameters.strength, least if least * steps >= 1 else math.nextafter(least, 2))
