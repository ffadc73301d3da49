"""Trains the VAE: first both halves, then the decoder alone, on latents that do not change any more."""

import math
import random
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from tqdm import tqdm

from .checkpoints import load_checkpoint, save_checkpoint
from .drawings import Pixels, draw_crowd, draw_scene
from .scenes import sample_scene
from .vae import LATENT_CHANNELS, LATENT_NOISE, LatentNorm, build_vae, reconstruct, reconstruction_loss

JOINT_STEPS = 1150
DECODER_STEPS = 500
WARM_UP_STEPS = 40
LEARNING_RATE = 3e-3
SAVE_EVERY = 50


def train_encoder(folder: Path, device: torch.device, seed: int) -> AutoencoderKL:
    """Both halves together. The encoder, and so the latents, are final after this."""
    path = folder / "vae-joint.pt"
    vae, norm = build_vae().to(device, memory_format=torch.channels_last), LatentNorm().to(device)
    state = load_checkpoint(path)
    if state is None or state["step"] < JOINT_STEPS:
        pictures = _Pictures(seed)
        with torch.no_grad():
            norm.measure(vae.encoder(pictures.batch(random.Random(0), device))[:, :LATENT_CHANNELS])
        _train(vae, norm, pictures, path, JOINT_STEPS, LEARNING_RATE, LATENT_NOISE, device, seed)
        state = load_checkpoint(path)
        assert state is not None
    vae.load_state_dict(state["vae"])
    norm.load_state_dict(state["norm"])
    norm.fold_into(vae)
    return vae.eval()


def train_decoder(vae: AutoencoderKL, folder: Path, device: torch.device, seed: int) -> AutoencoderKL:
    """The decoder alone: it learns to draw clean edges from latents that are a little wrong."""
    path = folder / "vae-decoder.pt"
    state = load_checkpoint(path)
    if state is None or state["step"] < DECODER_STEPS:
        vae.encoder.requires_grad_(False)
        noise = 1.5 * LATENT_NOISE
        _train(vae, None, _Pictures(seed + 1), path, DECODER_STEPS, LEARNING_RATE / 2, noise, device, seed + 1)
        state = load_checkpoint(path)
        assert state is not None
    vae.load_state_dict(state["vae"])
    return vae.eval().requires_grad_(False)


class _Pictures:
    """Crowds of small shapes, and crops of scenes as they will be drawn."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        self.crowds = _stack([draw_crowd(64, rng) for _ in range(12_000)])
        self.scenes = {
            side: _stack([draw_scene(sample_scene(rng, held_out=False), side, side, rng) for _ in range(count)])
            for side, count in ((64, 1500), (128, 2000), (256, 400))
        }

    def batch(self, rng: random.Random, device: torch.device) -> Tensor:
        """(count, 3, side, side) in -1..1, always of about as many pixels in all."""
        kind = rng.random()
        if kind < 0.6:
            batch = _some(self.crowds, 32, 64, rng)
        elif kind < 0.9:
            batch = _some(self.scenes[rng.choice((64, 128, 128, 256))], 32, 64, rng)
        else:
            batch = _some(self.scenes[rng.choice((128, 256))], 8, 128, rng)
        return batch.to(device, torch.float32, memory_format=torch.channels_last) / 127.5 - 1.0


def _some(pictures: Tensor, count: int, side: int, rng: random.Random) -> Tensor:
    top, left = (rng.randint(0, pictures.shape[-1] - side) for _ in range(2))
    chosen = torch.tensor([rng.randrange(len(pictures)) for _ in range(count)])
    return pictures[chosen, :, top : top + side, left : left + side]


def _stack(drawings: list[Pixels]) -> Tensor:
    return torch.stack([torch.from_numpy(drawing.copy()) for drawing in drawings]).permute(0, 3, 1, 2)


def _train(
    vae: AutoencoderKL,
    norm: LatentNorm | None,
    pictures: _Pictures,
    path: Path,
    steps: int,
    learning_rate: float,
    noise: float,
    device: torch.device,
    seed: int,
) -> None:
    parameters = [parameter for parameter in vae.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(parameters, learning_rate, betas=(0.9, 0.97))
    state = load_checkpoint(path)
    first = 0
    if state is not None:
        first = state["step"]
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
        if norm is not None:
            norm.load_state_dict(state["norm"])
    with tqdm(total=steps, initial=first, desc=path.stem, mininterval=5.0) as bar:
        for step in range(first, steps):
            rng = random.Random(f"{seed} {step}")
            torch.manual_seed(seed * 100_000 + step)
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * one_cycle(step, steps)
            batch = pictures.batch(rng, device)
            spread = noise * 2.0 * rng.random()
            with torch.autocast(device.type, torch.bfloat16):
                decoded = reconstruct(vae, norm, batch, spread)
            loss = reconstruction_loss(decoded, batch)
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{loss.item():.4f}", mse=f"{(decoded - batch).square().mean().item():.4f}")
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
                saved: dict[str, Any] = {"step": step + 1, "vae": vae.state_dict(), "optimizer": optimizer.state_dict()}
                save_checkpoint(path, saved | {"norm": norm.state_dict() if norm is not None else {}})


def one_cycle(step: int, steps: int) -> float:
    """The share of the learning rate at a step: a short warm-up, then a cosine down to 0.02."""
    return min(1.0, (step + 1) / WARM_UP_STEPS) * (0.51 + 0.49 * math.cos(math.pi * step / steps))
