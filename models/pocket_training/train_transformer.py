"""Trains the transformer and the text encoder together, by flow matching on the VAE's latents."""

import math
import random
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel
from torch import Tensor, distributed, nn
from torch.multiprocessing.spawn import spawn
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast, Qwen3Model

from .captions import PARTS, UNKNOWN_WORD, sample_caption
from .checkpoints import load_checkpoint, save_checkpoint
from .latents import TrainingSet, read_training_set
from .text import CAPTION_MULTIPLE, build_text_encoder, build_tokenizer, encode, tokenize
from .transformer import build_transformer, predict, use_real_rotation

CHECKPOINT = "transformer.pt"
STEPS = 12_000
BATCH = 32
FOCUS_STEPS = 4200
"""So long it learns mostly from one object, all said: what words mean."""

FOCUS_PAIRS_KEPT = 0.25
LEAVE_OUT_SHARE = 0.35
"""Afterwards, this share of the captions leaves out something that is usual."""

LONG_CAPTION_SHARE = 0.02
SHIFT = 3.0
"""Of the exported scheduler."""

TRAINING_SHIFT = 7.0
"""Half of the training happens at noise above 0.875. Below it the noisy latents show the shape; above it only
the prompt says what it is, and with 3.0 the model learned to draw shapes long before it learned which."""

FOCUS_EVEN_SHARE, EVEN_SHARE = 0.2, 0.5
"""The share of noise levels that are spread as the scheduler spreads its steps, which makes outlines clean."""

MATRIX_RATE, OTHER_RATE = 2e-3, 2e-3
WARM_UP_STEPS = 60
DECAY_SHARE = 0.45
EMA_DECAY = 0.993
SAVE_EVERY = 100


@dataclass(frozen=True)
class Denoiser:
    """What turns a caption and noise into latents."""

    tokenizer: PreTrainedTokenizerFast
    text_encoder: Qwen3Model
    transformer: ZImageTransformer2DModel

    def modules(self) -> nn.ModuleList:
        return nn.ModuleList([self.text_encoder, self.transformer])


def build_denoiser() -> Denoiser:
    tokenizer = build_tokenizer()
    return Denoiser(tokenizer, build_text_encoder(len(tokenizer)), build_transformer())


def averaged_denoiser(path: Path) -> Denoiser:
    """The running average of the weights in a checkpoint: what is exported."""
    state = load_checkpoint(path)
    if state is None:
        raise FileNotFoundError(f"no checkpoint at {path}: train the transformer first")
    denoiser = build_denoiser()
    denoiser.modules().load_state_dict(state["average"])
    return denoiser


def train_transformer(work: Path, device: torch.device, seed: int, steps: int, processes: int) -> Denoiser:
    """Goes on from the checkpoint in `work` where there is one; returns the averaged model.

    On a CPU each core is a process that takes its part of every batch. Threads would wait for each other
    thousands of times a step, which is slow as soon as anything else runs on the machine.
    """
    if device.type != "cpu":
        processes = 1
    meeting = work / "meeting"
    meeting.unlink(missing_ok=True)
    settings = (processes, work, str(device), seed, steps)
    spawn(_train, settings, nprocs=processes, daemon=True)  # type: ignore[no-untyped-call] # torch gives it no types
    return averaged_denoiser(work / CHECKPOINT)


def _train(rank: int, processes: int, work: Path, device_name: str, seed: int, steps: int) -> None:
    device = torch.device(device_name)
    if device.type == "cpu":
        torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    distributed.init_process_group(
        "gloo", init_method=f"file://{(work / 'meeting').absolute()}", rank=rank, world_size=processes
    )
    batches = _Batches(read_training_set(work, seed))
    torch.manual_seed(seed)
    denoiser = build_denoiser()
    use_real_rotation(denoiser.transformer)
    modules = denoiser.modules().to(device)
    optimizers = _optimizers(denoiser)
    weights = modules.state_dict()
    average = {name: value.detach().clone() for name, value in weights.items()}
    first = 0
    state = load_checkpoint(work / CHECKPOINT)
    if state is not None:
        first = state["step"]
        modules.load_state_dict(state["modules"])
        average = {name: value.to(device) for name, value in state["average"].items()}
        for optimizer, saved, rate in zip(optimizers, state["optimizers"], (MATRIX_RATE, OTHER_RATE), strict=True):
            optimizer.load_state_dict(saved)
            for group in optimizer.param_groups:
                group["initial_lr"] = rate
    for block in [*denoiser.transformer.noise_refiner, *denoiser.transformer.layers]:
        block.compile(dynamic=False)
    smooth = float("nan")
    with tqdm(total=steps, initial=first, desc="transformer", mininterval=10.0, disable=rank > 0) as bar:
        for step in range(first, steps):
            loss = _step(denoiser, optimizers, batches, step, steps, device, seed, rank, processes)
            decay = min(EMA_DECAY, step / (step + 50))
            with torch.no_grad():
                torch._foreach_lerp_(list(average.values()), list(weights.values()), 1 - decay)
            smooth = loss if math.isnan(smooth) else 0.98 * smooth + 0.02 * loss
            bar.update()
            bar.set_postfix(loss=f"{smooth:.4f}", refresh=False)
            if rank == 0 and ((step + 1) % SAVE_EVERY == 0 or step + 1 == steps):
                saved_state: dict[str, Any] = {"step": step + 1, "modules": weights, "average": average}
                save_checkpoint(work / CHECKPOINT, saved_state | {"optimizers": [o.state_dict() for o in optimizers]})
                bar.write(f"step {step + 1}: loss {smooth:.4f}")
    distributed.destroy_process_group()


def _step(
    denoiser: Denoiser,
    optimizers: list[torch.optim.Optimizer],
    batches: "_Batches",
    step: int,
    steps: int,
    device: torch.device,
    seed: int,
    rank: int,
    processes: int,
) -> float:
    focus = step < FOCUS_STEPS
    long = random.Random(f"{seed} {step}").random() < LONG_CAPTION_SHARE
    generator = torch.Generator().manual_seed((seed * 1_000_000 + step) * 64 + rank)
    captions, latents = batches.sample(BATCH // processes, focus, random.Random(f"{seed} {step} {rank}"))
    if long:
        captions = [f"{caption} {' '.join([UNKNOWN_WORD] * 24)}" for caption in captions]
    ids, lengths = tokenize(denoiser.tokenizer, captions)
    noise = torch.randn(latents.shape, generator=generator)
    sigma = sample_sigmas(len(latents), FOCUS_EVEN_SHARE if focus else EVEN_SHARE, generator)
    mixed = (1 - sigma[:, None, None, None]) * latents + sigma[:, None, None, None] * noise
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * _rate(step, steps)
        optimizer.zero_grad()
    stance = "default" if ids.shape[1] == CAPTION_MULTIPLE else "force_eager"
    with torch.compiler.set_stance(stance), torch.autocast(device.type, torch.bfloat16):
        states = encode(denoiser.text_encoder, ids.to(device))
        velocity = predict(denoiser.transformer, mixed.to(device), (1 - sigma).to(device), states, lengths.to(device))
        loss = (velocity.float() - (latents - noise).to(device)).square().mean()
        torch.autograd.backward(loss)
    if processes > 1:
        _average_gradients(optimizers, processes)
    for optimizer in optimizers:
        optimizer.step()
    return loss.item()


def _average_gradients(optimizers: list[torch.optim.Optimizer], processes: int) -> None:
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    gradients = [parameter.grad for group in groups for parameter in group["params"] if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    distributed.all_reduce(flat)
    flat /= processes
    for gradient, part in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
        gradient.copy_(part.view_as(gradient))


class _Batches:
    """Picks pictures and describes them."""

    def __init__(self, training_set: TrainingSet) -> None:
        self._set = training_set
        self._unsaid: dict[frozenset[str], list[int]] = {}
        for index, scene in enumerate(training_set.scenes):
            usual = sorted(scene.usual_parts())
            for count in range(1, len(usual) + 1):
                for parts in combinations(usual, count):
                    self._unsaid.setdefault(frozenset(parts), []).append(index)
        self._ways = [
            *(frozenset(parts) for n in (1, 2, 3) for parts in combinations(("background", "place", "size"), n)),
            *(frozenset({part, *more}) for part in ("shape", "colour") for more in ((), ("place", "size"))),
            frozenset({"background", "colour", "place", "size"}),
            PARTS,
        ]

    def sample(self, count: int, focus: bool, rng: random.Random) -> tuple[list[str], Tensor]:
        """Captions and latents (count, channels, height, width)."""
        captions: list[str] = []
        chosen: list[int] = []
        while len(chosen) < count:
            left_out: frozenset[str] = frozenset()
            index = rng.randrange(len(self._set.scenes))
            if focus and len(self._set.scenes[index].things) == 2 and rng.random() >= FOCUS_PAIRS_KEPT:
                continue
            if not focus and rng.random() < LEAVE_OUT_SHARE:
                left_out = rng.choice(self._ways)
                index = rng.choice(self._unsaid[left_out])
            chosen.append(index)
            captions.append(sample_caption(self._set.scenes[index], rng, left_out))
        return captions, self._set.latents[chosen].float()


def sample_sigmas(count: int, even_share: float, generator: torch.Generator) -> Tensor:
    """Noise levels (count,): a shifted logit-normal, and some as the scheduler's steps are."""
    normal = _shifted(torch.sigmoid(torch.randn(count, generator=generator)), TRAINING_SHIFT)
    even = _shifted(torch.rand(count, generator=generator), SHIFT)
    return torch.where(torch.rand(count, generator=generator) < even_share, even, normal)


def _shifted(sigma: Tensor, shift: float) -> Tensor:
    """Equation 23 of Esser et al. 2024, "Scaling Rectified Flow Transformers" (arXiv 2403.03206)."""
    return shift * sigma / (1 + (shift - 1) * sigma)


def _optimizers(denoiser: Denoiser) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the blocks, AdamW for embeddings, modulation, norms and the rest."""
    matrices: list[nn.Parameter] = []
    others: list[nn.Parameter] = []
    for name, parameter in denoiser.modules().named_parameters():
        inside = "layers." in name or "refiner." in name
        (matrices if inside and parameter.ndim == 2 and "adaLN" not in name else others).append(parameter)
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Muon(matrices, MATRIX_RATE, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(others, OTHER_RATE, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
    return optimizers


def _rate(step: int, steps: int) -> float:
    """Warm up, stay, then fall to nothing in a straight line."""
    return min(1.0, (step + 1) / WARM_UP_STEPS, (steps - step) / (steps * DECAY_SHARE))
