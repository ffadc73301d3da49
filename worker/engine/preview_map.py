"""Previews without the decoder: a linear map from latents to a small image, fitted to the VAE's own encoder."""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

PICTURES, SIDE = 32, 64  # what it is fitted to: smooth random colours; 2,048 latent pixels, a few dozen unknowns


class PreviewMap:
    """A matrix (channels + 1, 3): from one latent pixel and a constant to red, green and blue in -1..1."""

    def __init__(self, vae: Any) -> None:
        generator = torch.Generator("cpu").manual_seed(0)
        coarse = torch.rand(PICTURES, 3, 5, 5, generator=generator) * 2 - 1
        pictures = functional.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic").clamp(-1, 1)
        latents = (
            torch.cat([_encode(vae, picture.unsqueeze(0)) for picture in pictures]).float().cpu()
        )  # one at a time: encoding takes memory
        colours = functional.adaptive_avg_pool2d(pictures, (latents.shape[-2], latents.shape[-1]))
        found = torch.linalg.lstsq(_with_constant(latents), colours.permute(0, 2, 3, 1).reshape(-1, 3), driver="gelsd")
        self._map: torch.Tensor = found.solution

    def picture(self, latents: torch.Tensor) -> torch.Tensor:
        """uint8 (height, width, 3) of latents (channels, height, width) on the CPU."""
        colours = (_with_constant(latents.float().unsqueeze(0)) @ self._map).reshape(*latents.shape[-2:], 3)
        return ((colours.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def _encode(vae: Any, picture: torch.Tensor) -> torch.Tensor:
    mean = vae.encode(picture.to(vae.device, vae.dtype)).latent_dist.mode()
    scaled: torch.Tensor = (mean - (vae.config.shift_factor or 0.0)) * vae.config.scaling_factor
    return scaled


def _with_constant(latents: torch.Tensor) -> torch.Tensor:
    flat = latents.permute(0, 2, 3, 1).reshape(-1, latents.shape[1])
    return torch.cat([flat, torch.ones(len(flat), 1)], dim=1)
