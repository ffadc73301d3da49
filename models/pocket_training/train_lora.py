"""Trains a LoRA that has the pocket model draw outlines, by flow matching on the VAE's latents."""

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ZImagePipeline, ZImageTransformer2DModel
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor
from transformers import PreTrainedTokenizerFast, Qwen3Model

from .captions import sample_caption
from .drawings import draw_scene
from .latents import SIDE
from .scenes import sample_scene
from .text import encode, tokenize
from .train_transformer import EVEN_SHARE, LEAVE_OUT_SHARE, sample_sigmas
from .transformer import predict, use_real_rotation
from .vae import LATENT_CHANNELS

RANK = 8
PARTS = r"layers\.\d+\.(attention\.(to_q|to_k|to_v|to_out\.0)|feed_forward\.w[123])"
CAPTIONS_EACH = 3
RATE = 2e-3
WARM_UP = 0.02
"""The share of the training in which the learning rate rises; then it falls along half a cosine."""

ENCODED_AT_ONCE = 100
REPORT_EVERY = 50
Say = Callable[[str], object]
Encoded = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Examples:
    """Pictures as latents (count, channels, side / 8, side / 8), and each one's captions as the text encoder's states.

    `states` is (count, captions, tokens, features); `lengths`, (count, captions), says how many tokens are real.
    """

    latents: Tensor
    states: Tensor
    lengths: Tensor


def draw_examples(pipeline: ZImagePipeline, count: int, device: torch.device, seed: int, say: Say) -> Examples:
    """Draws outlined scenes and describes them in the words of filled ones: the LoRA is the style, not a word."""
    parts: list[Encoded] = []
    started = time.perf_counter()
    for start in range(0, count, ENCODED_AT_ONCE):
        indexes = range(start, min(start + ENCODED_AT_ONCE, count))
        parts.append(_encode(pipeline, [random.Random(f"outlined {seed} {index}") for index in indexes], device))
    longest = max(states.shape[2] for _, states, _ in parts)
    latents, states, lengths = (
        torch.cat(each)
        for each in zip(
            *((latents, _padded(states, longest), lengths) for latents, states, lengths in parts), strict=True
        )
    )
    say(f"{count} pictures with {CAPTIONS_EACH} captions each in {time.perf_counter() - started:.1f} s")
    return Examples(latents, states, lengths)


def add_lora(transformer: ZImageTransformer2DModel) -> list[torch.nn.Parameter]:
    """Puts an untrained LoRA, which changes nothing yet, into the model. Returns its weights: only they are trained."""
    use_real_rotation(transformer)
    transformer.requires_grad_(False)
    transformer.add_adapter(LoraConfig(r=RANK, lora_alpha=RANK, target_modules=PARTS))
    return [parameter for parameter in transformer.parameters() if parameter.requires_grad]


def train_lora(
    transformer: ZImageTransformer2DModel,
    weights: list[torch.nn.Parameter],
    examples: Examples,
    *,
    steps: int,
    batch: int,
    seed: int,
    deadline: float,
    say: Say,
) -> int:
    """Trains for `steps`, or until `deadline` (of time.perf_counter) if that is earlier. Returns the steps done."""
    device = examples.latents.device
    generator = torch.Generator().manual_seed(seed)
    noise_generator = torch.Generator(device).manual_seed(seed)
    optimizer = torch.optim.AdamW(weights, RATE, betas=(0.9, 0.98), weight_decay=0.0)
    started = time.perf_counter()
    smooth = torch.zeros((), device=device)
    for step in range(steps):
        now = time.perf_counter()
        done = max(step / steps, (now - started) / (deadline - started))
        if done >= 1.0:
            say(f"out of time after {step} steps")
            return step
        for group in optimizer.param_groups:
            group["lr"] = RATE * _share_of_rate(done)
        loss = _loss(transformer, examples, batch, generator, noise_generator)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        smooth = loss.detach() if step == 0 else smooth.lerp(loss.detach(), 0.02 if step > REPORT_EVERY else 0.1)
        if step % REPORT_EVERY == 0 or step + 1 == steps:
            say(f"step {step + 1} of {steps}: loss {smooth.item():.4f}, {now - started:.0f} s")
    return steps


def save_lora(transformer: ZImageTransformer2DModel, file: Path) -> None:
    """Writes the LoRA in half precision, under the names that `ZImagePipeline.load_lora_weights` reads."""
    layers = {name: value.detach().to("cpu", torch.float16).contiguous()
              for name, value in get_peft_model_state_dict(transformer).items()}  # fmt: skip
    ZImagePipeline.save_lora_weights(file.parent, transformer_lora_layers=layers, weight_name=file.name)
    file.chmod(0o644)


def _padded(states: Tensor, tokens: int) -> Tensor:
    """(count, captions, tokens, features): what follows a caption's end is not read."""
    return torch.nn.functional.pad(states, (0, 0, 0, tokens - states.shape[2]))


@torch.no_grad()
def _encode(pipeline: ZImagePipeline, streams: list[random.Random], device: torch.device) -> Encoded:
    vae: AutoencoderKL = pipeline.vae
    tokenizer: PreTrainedTokenizerFast = pipeline.tokenizer
    text_encoder: Qwen3Model = pipeline.text_encoder
    drawings, captions = [], []
    for rng in streams:
        scene = sample_scene(rng, held_out=False)
        drawings.append(torch.from_numpy(draw_scene(scene, SIDE, SIDE, rng, outlined=True).copy()))
        usual = sorted(scene.usual_parts())
        for _ in range(CAPTIONS_EACH):
            leaves_out = bool(usual) and rng.random() < LEAVE_OUT_SHARE
            left_out = frozenset(rng.sample(usual, rng.randint(1, len(usual)))) if leaves_out else frozenset()
            captions.append(sample_caption(scene, rng, left_out))
    pictures = torch.stack(drawings).permute(0, 3, 1, 2).to(device, torch.float32) / 127.5 - 1.0
    latents = vae.encoder(pictures)[:, :LATENT_CHANNELS].float()
    ids, lengths = tokenize(tokenizer, captions)
    states = encode(text_encoder, ids.to(device)).half()
    count = len(streams)
    return latents, states.view(count, CAPTIONS_EACH, *states.shape[1:]), lengths.to(device).view(count, CAPTIONS_EACH)


def _loss(
    transformer: ZImageTransformer2DModel,
    examples: Examples,
    batch: int,
    generator: torch.Generator,
    noise_generator: torch.Generator,
) -> Tensor:
    device = examples.latents.device
    chosen = torch.randint(len(examples.latents), (batch,), generator=generator).to(device)
    caption = torch.randint(CAPTIONS_EACH, (batch,), generator=generator).to(device)
    sigma = sample_sigmas(batch, EVEN_SHARE, generator).to(device)
    latents = examples.latents[chosen]
    noise = torch.randn(latents.shape, generator=noise_generator, device=device)
    mixed = torch.lerp(latents, noise, sigma[:, None, None, None])
    states, lengths = examples.states[chosen, caption].float(), examples.lengths[chosen, caption]
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type != "cpu"):
        velocity = predict(transformer, mixed, 1 - sigma, states, lengths)
    return (velocity.float() - (latents - noise)).square().mean()


def _share_of_rate(done: float) -> float:
    return min(1.0, done / WARM_UP + 0.01) * (0.5 + 0.5 * math.cos(math.pi * done))
