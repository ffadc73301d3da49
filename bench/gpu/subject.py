"""The model that is measured: Z-Image at its real size with random weights, or the pocket model on the CPU.

Speed does not depend on what the weights' values are, so nothing is downloaded. The sizes of the real one are those
of Tongyi-MAI/Z-Image-Turbo: a transformer of 6.15 billion parameters, Qwen3-4B as text encoder, Flux's image decoder.
The tokenizer is the pocket model's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    FlowMatchEulerDiscreteScheduler,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import AutoTokenizer, Qwen3Config, Qwen3Model

from storage.predictions.parameters import Parameters
from worker.engine.zimage import ZImageEngine

POCKET = Path(__file__).parents[2] / "models" / "pocket"
STEPS = 8


@dataclass
class Subject:
    """A pipeline on its device, and the sides (pixels) of the pictures that are measured."""

    pipeline: Any
    device: torch.device
    sides: tuple[int, ...]
    what: str

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    def engine(self, *, attention: str = "") -> ZImageEngine:
        return ZImageEngine(self.pipeline, device=self.device, attention=attention)

    def asked(self, side: int, *, seed: int = 1, words: int = 12, steps: int = STEPS, images: int = 1) -> Parameters:
        """A request for square pictures with a prompt of about so many tokens."""
        prompt = " ".join(["circle", "red", "blue", "square"][index % 4] for index in range(words))
        return Parameters(prompt, side, side, steps, 0.0, seed, num_outputs=images)

    def wait(self) -> None:
        if self.is_cuda:
            torch.cuda.synchronize(self.device)


def real_size(device: torch.device) -> Subject:
    """About 20 GB in bfloat16, made on the device."""
    torch.manual_seed(0)
    with _made_as(torch.bfloat16, device):
        pipeline = ZImagePipeline(
            scheduler=FlowMatchEulerDiscreteScheduler(num_train_timesteps=1000, shift=3.0),
            vae=AutoencoderKL(
                in_channels=3,
                out_channels=3,
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                latent_channels=16,
                norm_num_groups=32,
                sample_size=1024,
                scaling_factor=0.3611,
                shift_factor=0.1159,
                use_quant_conv=False,
                use_post_quant_conv=False,
                force_upcast=True,
            ).eval(),
            text_encoder=Qwen3Model(
                Qwen3Config(
                    vocab_size=151936,
                    hidden_size=2560,
                    intermediate_size=9728,
                    num_hidden_layers=36,
                    num_attention_heads=32,
                    num_key_value_heads=8,
                    head_dim=128,
                    max_position_embeddings=40960,
                    tie_word_embeddings=True,
                )
            ).eval(),
            tokenizer=AutoTokenizer.from_pretrained(POCKET / "tokenizer"),
            transformer=ZImageTransformer2DModel(cap_feat_dim=2560).eval(),
        )
    _silence(pipeline)
    return Subject(pipeline, device, (512, 1024), "Z-Image at its real size, random weights, bfloat16")


def pocket(device: torch.device) -> Subject:
    """The pocket model: what the tests run on a machine without a GPU."""
    pipeline = ZImagePipeline.from_pretrained(POCKET, dtype=torch.float32, local_files_only=True).to(device)
    _silence(pipeline)
    return Subject(pipeline, device, (64, 128), "the pocket model, float32")


def _silence(pipeline: Any) -> None:
    pipeline.set_progress_bar_config(disable=True)


@contextmanager
def _made_as(dtype: torch.dtype, device: torch.device) -> Iterator[None]:
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            yield
    finally:
        torch.set_default_dtype(default)
