"""Copies decoded images from the device to main memory, while the device goes on drawing, and finds blank ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch

from worker.engine.interface import BlankImages

if TYPE_CHECKING:
    import numpy as np
    from PIL.Image import Image

# Numbers that overflow become infinite, then NaN, and NaN becomes black when pixels are made of it.
OVERFLOWED = (
    "the model computed NaN instead of pixels. If every image comes out like this, its numbers overflow:"
    ' set dtype to "bfloat16" or "float32" in models.toml.'
)
UNSAFE = "NSFW content detected by the model's safety checker. Try a different prompt or seed."


def start_copying(decoded: Sequence[torch.Tensor]) -> Callable[[], list[Image]]:
    """Start copying images, each (3, height, width) in -1..1. The returned function waits and returns them.

    The arithmetic is that of diffusers' VaeImageProcessor, but on the device: a quarter of the bytes is copied.
    The returned function raises BlankImages if an image has NaN or infinite values.
    """
    copies = [_bytes_of(pixels).to("cpu", non_blocking=True) for pixels in decoded]
    # One value that isn't finite makes the sum so. In float32, since sums of float16 overflow by themselves.
    sums = [pixels.sum(dtype=torch.float32).to("cpu", non_blocking=True) for pixels in decoded]
    copied: torch.cuda.Event | None = None
    if decoded and decoded[0].is_cuda:
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call] # torch has not annotated it
        copied.record()

    def fetch_images() -> list[Image]:
        from PIL import Image

        if copied is not None:
            copied.synchronize()
        images = [Image.fromarray(copy.numpy()) for copy in copies]
        _raise_for({index: OVERFLOWED for index, total in enumerate(sums) if not torch.isfinite(total)}, images)
        return images

    return fetch_images


def images_of(arrays: Sequence[np.ndarray[Any, Any]], unsafe: Sequence[bool], size: tuple[int, int]) -> list[Image]:
    """Images of what a pipeline returns with `output_type="np"`: each (height, width, channels), in 0..1.

    `size` (width, height) is what was asked for; what was drawn in another size is resized.
    The arithmetic is what diffusers does for `output_type="pil"`. `unsafe`: what the safety checker has blackened.
    Raises BlankImages.
    """
    import numpy as np
    from PIL import Image

    reasons: dict[int, str] = {}
    images = []
    for index, (array, is_unsafe) in enumerate(zip(arrays, unsafe, strict=True)):
        if not np.isfinite(array.sum()):
            reasons[index] = OVERFLOWED
        if is_unsafe:
            reasons[index] = UNSAFE
        pixels = (np.nan_to_num(array) if index in reasons else array) * 255
        values = pixels.round().astype("uint8")
        image = Image.fromarray(values[..., 0] if values.shape[-1] == 1 else values).convert("RGB")
        images.append(image if image.size == size else image.resize(size, Image.Resampling.LANCZOS))
    _raise_for(reasons, images)
    return images


def _raise_for(reasons: Mapping[int, str], images: list[Image]) -> None:
    if reasons:
        raise BlankImages(reasons, images)


def _bytes_of(pixels: torch.Tensor) -> torch.Tensor:
    shown = (pixels * 0.5 + 0.5).clamp(0, 1)
    return (shown.permute(1, 2, 0).float() * 255).round().to(torch.uint8).contiguous()
