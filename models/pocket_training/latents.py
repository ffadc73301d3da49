"""The training set: scenes, drawn and encoded once."""

import random
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from .checkpoints import load_checkpoint, save_checkpoint
from .drawings import Pixels, draw_scene
from .scenes import Scene, sample_scene
from .vae import LATENT_CHANNELS

LATENTS = "latents.pt"
SIDE = 128
COUNT = 40_000


@dataclass(frozen=True)
class TrainingSet:
    """All pictures as latents, (count, channels, side / 8, side / 8), and what is in each."""

    latents: Tensor
    scenes: list[Scene]


def write_training_set(vae: AutoencoderKL, folder: Path, device: torch.device, seed: int) -> None:
    """Draws and encodes all pictures, in a few minutes, unless `folder` has them."""
    path = folder / LATENTS
    if not path.exists():
        save_checkpoint(path, {"latents": _encode_all(vae, device, seed)})


def read_training_set(folder: Path, seed: int) -> TrainingSet:
    stored = load_checkpoint(folder / LATENTS)
    if stored is None:
        raise FileNotFoundError(f"no {LATENTS} in {folder}: write the training set first")
    latents = stored["latents"]
    return TrainingSet(latents, [sample_scene(_stream(seed, index), held_out=False) for index in range(len(latents))])


@torch.no_grad()
def _encode_all(vae: AutoencoderKL, device: torch.device, seed: int) -> Tensor:
    chunks = []
    for start in tqdm(range(0, COUNT, 50), desc="drawings", mininterval=5.0):
        drawings = [torch.from_numpy(redraw(index, seed).copy()) for index in range(start, start + 50)]
        pictures = torch.stack(drawings).permute(0, 3, 1, 2).to(device, torch.float32) / 127.5 - 1.0
        with torch.autocast(device.type, torch.bfloat16):
            encoded = vae.encoder(pictures.contiguous(memory_format=torch.channels_last))
        chunks.append(encoded[:, :LATENT_CHANNELS].to("cpu", torch.float16))
    return torch.cat(chunks)


def redraw(index: int, seed: int) -> Pixels:
    """The picture that was encoded at this place of the training set."""
    rng = _stream(seed, index)
    return draw_scene(sample_scene(rng, held_out=False), SIDE, SIDE, rng)


def _stream(seed: int, index: int) -> random.Random:
    return random.Random(f"{seed} {index}")
