"""Latents that begin from a start image instead of noise alone, and what a mask keeps of it at every step.

The arithmetic is that of diffusers' ZImageImg2ImgPipeline and ZImageInpaintPipeline, in the VAE's data type, and random
numbers are drawn in their order: first those of the encoder, then the noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from storage.predictions.parameters import Parameters
from worker.engine.interface import Pictures

if TYPE_CHECKING:
    from PIL.Image import Image


@dataclass(frozen=True)
class Kept:
    """What stays of a start image. Latents and noise are (channels, 1, height / 8, width / 8), one an image."""

    latents: list[torch.Tensor]
    noise: list[torch.Tensor]
    repaint_mask: torch.Tensor  # (1, 1, height / 8, width / 8): 1 where the mask is white, else 0

    def put_back(self, drawn: torch.Tensor, index: int, sigma: torch.Tensor | None = None) -> torch.Tensor:
        """Image `index` after a step, with the start image's latents where the mask is black, at that noise level."""
        original = self.latents[index]
        if sigma is not None:
            original = _noised(original, self.noise[index], sigma)
        return (1 - self.repaint_mask) * original + self.repaint_mask * drawn


def start_from(
    vae: Any, device: torch.device, parameters: Parameters, pictures: Pictures, sigma: torch.Tensor
) -> tuple[list[torch.Tensor], Kept | None]:
    """The latents of all images at noise level `sigma`, float32, and what the mask keeps, if there is one.

    `pictures` have the size that is drawn.
    """
    encoded = vae.encode(_tensor_of(pictures.image).to(device, vae.dtype)).latent_dist
    latents, noises = [], []
    for index in range(parameters.num_outputs):
        generator = torch.Generator("cpu").manual_seed(parameters.seed_of(index))
        sampled = (encoded.sample(generator) - vae.config.shift_factor) * vae.config.scaling_factor
        noise = torch.randn(sampled.shape, generator=generator, dtype=vae.dtype).to(device)
        latents.append(sampled[0].unsqueeze(1))
        noises.append(noise[0].unsqueeze(1))
    begun = [_noised(each, noise, sigma).float() for each, noise in zip(latents, noises, strict=True)]
    if pictures.mask is None:
        return begun, None
    return begun, Kept(latents, noises, _latent_mask(pictures.mask, latents[0]))


def _noised(latents: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """FlowMatchEulerDiscreteScheduler.scale_noise."""
    level = sigma.to(latents.dtype)
    return level * noise + (1.0 - level) * latents


def _tensor_of(image: Image) -> torch.Tensor:
    """(1, 3, height, width) in -1..1, as VaeImageProcessor makes it."""
    return 2.0 * _unit_tensor_of(image) - 1.0


def _latent_mask(mask: Image, latents: torch.Tensor) -> torch.Tensor:
    """One of the pixels that a latent stands for decides, and a gray one does by its nearer side."""
    white = (_unit_tensor_of(mask) >= 0.5).float()
    return functional.interpolate(white, size=latents.shape[-2:], mode="nearest").to(latents.device, latents.dtype)


def _unit_tensor_of(image: Image) -> torch.Tensor:
    """(1, channels, height, width) in 0..1, channels last in memory as VaeImageProcessor has them.

    The layout decides which convolution torch takes, and they round differently.
    """
    import numpy as np

    pixels = torch.from_numpy(np.array(image).reshape(1, image.height, image.width, -1))
    return pixels.permute(0, 3, 1, 2).float() / 255
