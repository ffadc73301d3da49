"""The training set: scenes, drawn at many sizes and encoded once."""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from .checkpoints import load_checkpoint, save_checkpoint
from .drawings import draw_scene
from .scenes import Scene, sample_scene
from .vae import LATENT_CHANNELS

LATENTS = "latents.pt"
MAIN_SIZE = (128, 128)
MAIN_COUNT = 26_000
OTHER_COUNT = 500
OTHER_SIZES = (
    (64, 64), (80, 80), (96, 96), (112, 112), (160, 160), (192, 192), (256, 256),
    (128, 192), (192, 128), (128, 256), (256, 128), (64, 128), (128, 64), (96, 144), (144, 96),
    (192, 256), (256, 192), (64, 256), (256, 64), (160, 208),
)  # fmt: skip
"""Width and height. The transformer learns mostly at `MAIN_SIZE` and a share of the time at these."""


@dataclass(frozen=True)
class Bucket:
    """All pictures of one size: (count, channels, height / 8, width / 8) and what is in each."""

    latents: Tensor
    scenes: list[Scene]


def write_training_set(vae: AutoencoderKL, folder: Path, device: torch.device, seed: int) -> None:
    """Draws and encodes all pictures, in about three minutes, unless `folder` has them."""
    path = folder / LATENTS
    if path.exists():
        return
    stored = {}
    counts = [(MAIN_SIZE, MAIN_COUNT)] + [(size, OTHER_COUNT) for size in OTHER_SIZES]
    with tqdm(total=sum(count for _, count in counts), desc="drawings", mininterval=5.0) as bar:
        for size, count in counts:
            stored[_key(size)] = _encode_all(vae, size, count, device, seed, bar)
    save_checkpoint(path, stored)


def read_training_set(folder: Path, seed: int) -> dict[tuple[int, int], Bucket]:
    """By size."""
    stored = load_checkpoint(folder / LATENTS)
    if stored is None:
        raise FileNotFoundError(f"no {LATENTS} in {folder}: write the training set first")
    buckets = {}
    for size in (MAIN_SIZE, *OTHER_SIZES):
        latents = stored[_key(size)]
        scenes = [sample_scene(_stream(seed, size, index), held_out=False) for index in range(len(latents))]
        buckets[size] = Bucket(latents, scenes)
    return buckets


@torch.no_grad()
def _encode_all(
    vae: AutoencoderKL, size: tuple[int, int], count: int, device: torch.device, seed: int, bar: "tqdm[None]"
) -> Tensor:
    width, height = size
    chunks = []
    for start in range(0, count, 50):
        drawings = []
        for index in range(start, min(start + 50, count)):
            rng = _stream(seed, size, index)
            scene = sample_scene(rng, held_out=False)
            drawings.append(torch.from_numpy(draw_scene(scene, width, height, rng).copy()))
        pictures = torch.stack(drawings).permute(0, 3, 1, 2).to(device, torch.float32) / 127.5 - 1.0
        with torch.autocast(device.type, torch.bfloat16):
            encoded = vae.encoder(pictures.contiguous(memory_format=torch.channels_last))
        chunks.append(encoded[:, :LATENT_CHANNELS].to("cpu", torch.float16))
        bar.update(len(drawings))
    return torch.cat(chunks)


def _stream(seed: int, size: tuple[int, int], index: int) -> random.Random:
    return random.Random(f"{seed} {size} {index}")


def _key(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
