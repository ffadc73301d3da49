"""Writes the trained parts as a diffusers folder that `ZImagePipeline.from_pretrained` loads."""

from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, ZImagePipeline
from diffusers.utils import logging

from .train_transformer import SHIFT, Denoiser


def export_pipeline(vae: AutoencoderKL, denoiser: Denoiser, folder: Path) -> None:
    """Weights are halved on disk; the text encoder's config says float32, because that is how it runs."""
    pipeline = ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=SHIFT),
        vae=vae.to(memory_format=torch.contiguous_format),
        text_encoder=denoiser.text_encoder,
        tokenizer=denoiser.tokenizer,
        transformer=denoiser.transformer,
    )
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # it warns that a CPU can't run fp16: nobody runs this copy
    pipeline.to(torch.float16)
    pipeline.save_pretrained(folder, safe_serialization=True)
    logging.set_verbosity(verbosity)
    for weights in folder.rglob("*.safetensors"):
        weights.chmod(0o644)
    config = folder / "text_encoder" / "config.json"
    config.write_text(config.read_text().replace('"dtype": "float16"', '"dtype": "float32"'))
