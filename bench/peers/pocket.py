"""The drawing that every model server does: diffusers' own pipeline, loaded once, called with a list of prompts."""

import io
import os
from collections.abc import Sequence
from typing import Any

SIDE, STEPS = 128, 8


def load() -> Any:
    import diffusers
    import torch

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1))
    diffusers.utils.logging.disable_progress_bar()
    pipeline = diffusers.ZImagePipeline.from_pretrained(os.environ["FOLDER"], dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.to(memory_format=torch.channels_last)  # as Darkroom lays it out on the CPU
    return pipeline


def draw(pipeline: Any, asked: Sequence[tuple[str, int]]) -> list[bytes]:
    """PNG files of these (prompt, seed), in one batch."""
    import torch

    images = pipeline(
        prompt=[prompt for prompt, _ in asked],
        width=SIDE,
        height=SIDE,
        num_inference_steps=STEPS,
        guidance_scale=0.0,
        generator=[torch.Generator("cpu").manual_seed(seed) for _, seed in asked],
    ).images
    return [_png(image) for image in images]


def _png(image: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()
