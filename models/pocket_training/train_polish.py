"""Trains the VAE's decoder a last time, on what the transformer makes of noisy latents.

The transformer's latents are a little wrong in ways of their own, which the decoder has not seen yet: outlines come out
wavy and the tips of stars soft. It learns to draw clean ones from them.
"""

import random
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from .captions import sample_caption
from .checkpoints import load_checkpoint, save_checkpoint
from .latents import TrainingSet, read_training_set, redraw
from .text import encode, tokenize
from .train_transformer import Denoiser
from .train_vae import one_cycle
from .transformer import predict, use_real_rotation

CHECKPOINT = "vae-polish.pt"
STEPS = 400
BATCH = 16
LEARNING_RATE = 1.5e-3
SAVE_EVERY = 50
STAR_SHARE = 0.5
"""Half of the pictures have a star: it has the sharpest corners."""

LOWEST_SIGMA, HIGHEST_SIGMA = 0.05, 0.45
"""The last of 8 steps begins at a noise level of 0.3."""

EDGE_WEIGHT = 6.0
"""How much more a pixel counts near an edge; most of a picture is plain."""


def polish_decoder(
    vae: AutoencoderKL, denoiser: Denoiser, folder: Path, device: torch.device, seed: int
) -> AutoencoderKL:
    """Goes on from the checkpoint in `folder` where there is one."""
    vae.to(device, memory_format=torch.channels_last).eval().requires_grad_(False)
    vae.decoder.requires_grad_(True)
    denoiser.modules().to(device).eval().requires_grad_(False)
    use_real_rotation(denoiser.transformer)
    optimizer = torch.optim.AdamW(vae.decoder.parameters(), LEARNING_RATE, betas=(0.9, 0.97))
    path = folder / CHECKPOINT
    state = load_checkpoint(path)
    first = 0
    if state is not None:
        first = state["step"]
        vae.load_state_dict(state["vae"])
        optimizer.load_state_dict(state["optimizer"])
    training_set = read_training_set(folder, seed)
    stars = [i for i, scene in enumerate(training_set.scenes) if any(t.shape == "star" for t in scene.things)]
    with tqdm(total=STEPS, initial=first, desc="vae-polish", mininterval=5.0) as bar:
        for step in range(first, STEPS):
            for group in optimizer.param_groups:
                group["lr"] = LEARNING_RATE * one_cycle(step, STEPS)
            loss = _step(vae, denoiser, optimizer, training_set, stars, step, device, seed)
            bar.update()
            if step % 20 == 0:
                bar.set_postfix(loss=f"{loss:.4f}")
            if (step + 1) % SAVE_EVERY == 0 or step + 1 == STEPS:
                save_checkpoint(path, {"step": step + 1, "vae": vae.state_dict(), "optimizer": optimizer.state_dict()})
    return vae.requires_grad_(False)


def _step(
    vae: AutoencoderKL,
    denoiser: Denoiser,
    optimizer: torch.optim.Optimizer,
    training_set: TrainingSet,
    stars: list[int],
    step: int,
    device: torch.device,
    seed: int,
) -> float:
    rng = random.Random(f"polish {seed} {step}")
    chosen = [
        rng.choice(stars) if rng.random() < STAR_SHARE else rng.randrange(len(training_set.scenes))
        for _ in range(BATCH)
    ]
    drawn = torch.stack([torch.from_numpy(redraw(index, seed).copy()) for index in chosen])
    pictures = drawn.permute(0, 3, 1, 2).to(device, torch.float32) / 127.5 - 1.0
    captions = [sample_caption(training_set.scenes[index], rng) for index in chosen]
    latents = training_set.latents[chosen].float().to(device)
    with torch.autocast(device.type, torch.bfloat16):
        remade = _remade(denoiser, captions, latents, torch.Generator().manual_seed(seed * 100_000 + step))
        decoded = vae.decoder(remade.contiguous(memory_format=torch.channels_last)).float()
    error = decoded - pictures
    loss: Tensor = (_edge_weight(pictures) * (error.abs() + 0.5 * error.square())).mean()
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(vae.decoder.parameters(), 1.0)
    optimizer.step()
    return loss.item()


@torch.no_grad()
def _remade(denoiser: Denoiser, captions: list[str], latents: Tensor, generator: torch.Generator) -> Tensor:
    """What one step of the transformer makes of these latents with noise on them."""
    ids, lengths = tokenize(denoiser.tokenizer, captions)
    sigma = torch.empty(len(latents)).uniform_(LOWEST_SIGMA, HIGHEST_SIGMA, generator=generator).to(latents.device)
    noise = torch.randn(latents.shape, generator=generator).to(latents.device)
    spread = sigma[:, None, None, None]
    noisy = (1 - spread) * latents + spread * noise
    states = encode(denoiser.text_encoder, ids.to(latents.device))
    velocity = predict(denoiser.transformer, noisy, 1 - sigma, states, lengths.to(latents.device))
    return noisy + spread * velocity.float()


def _edge_weight(pictures: Tensor) -> Tensor:
    """(count, 1, height, width): 1 on plain ground, up to 1 + EDGE_WEIGHT within two pixels of an edge."""
    highest = functional.max_pool2d(pictures, 5, 1, 2)
    lowest = -functional.max_pool2d(-pictures, 5, 1, 2)
    return 1.0 + EDGE_WEIGHT * (highest - lowest).amax(dim=1, keepdim=True).clamp(max=1.0)
