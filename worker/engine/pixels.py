"""Copies decoded images from the device to main memory, while the device goes on drawing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from PIL.Image import Image


def transfer(decoded: Sequence[torch.Tensor]) -> Callable[[], list[Image]]:
    """Start copying images, each (3, height, width) in -1..1. The returned function waits and returns them.

    The arithmetic is that of diffusers' VaeImageProcessor, but on the device: a quarter of the bytes is copied.
    """
    copies = [_bytes_of(pixels).to("cpu", non_blocking=True) for pixels in decoded]
    copied: torch.cuda.Event | None = None
    if decoded and decoded[0].is_cuda:
        copied = torch.cuda.Event()  # type: ignore[no-untyped-call] # torch has not annotated it
        copied.record()

    def fetch_images() -> list[Image]:
        from PIL import Image

        if copied is not None:
            copied.synchronize()
        return [Image.fromarray(copy.numpy()) for copy in copies]

    return fetch_images


def _bytes_of(pixels: torch.Tensor) -> torch.Tensor:
    shown = (pixels * 0.5 + 0.5).clamp(0, 1)
    return (shown.permute(1, 2, 0).float() * 255).round().to(torch.uint8).contiguous()
