"""Qwen-Image-Edit's processor for images and texts. transformers' own handles videos too, and so needs torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

PLACEHOLDER = "<|image_pad|>"  # in a text: an image stands here


class ImagesAndText:
    """Called like Qwen2VLProcessor. Each placeholder becomes as many as its image has squares for the model."""

    def __init__(self, image_processor: Any, tokenizer: Any) -> None:
        self._image_processor = image_processor
        self._tokenizer = tokenizer

    @classmethod
    def read(cls, folder: Path, tokenizer: Any) -> ImagesAndText:
        """From the `processor` folder of a pipeline."""
        from transformers import Qwen2VLImageProcessorPil

        # It lies in a folder here, so nothing is downloaded.
        image_processor = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)  # nosec B615
        return cls(image_processor, tokenizer)

    def __call__(self, text: Sequence[str], images: Sequence[Image] | Image, **options: Any) -> Any:
        """`images` are those of the first text, then those of the second. Returns tensors."""
        from transformers import BatchFeature

        seen = self._image_processor(images=images, return_tensors="pt")
        squares = iter((seen["image_grid_thw"].prod(dim=1) // self._image_processor.merge_size**2).tolist())
        filled = []
        for each in text:
            first, *rest = each.split(PLACEHOLDER)
            filled.append(first + "".join(PLACEHOLDER * next(squares) + piece for piece in rest))
        return BatchFeature({**self._tokenizer(filled, **options), **seen})
