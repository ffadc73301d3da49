"""The VAE: pictures to latents of an eighth of their size and back."""

import math
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

LATENT_CHANNELS = 8
LATENT_NOISE = 0.12
"""Standard deviation of the noise that the decoder learns to live with, where latents have one of 1."""

CONFIG: dict[str, Any] = {
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "block_out_channels": (16, 32, 64, 64),
    "layers_per_block": 1,
    "latent_channels": LATENT_CHANNELS,
    "norm_num_groups": 1,
    "sample_size": 128,
    "scaling_factor": 1.0,
    "shift_factor": 0.0,
    "force_upcast": False,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "mid_block_add_attention": False,
}


def build_vae() -> AutoencoderKL:
    """A VAE that starts as "average over 8 x 8 pixels, and back"; the default initialisation hardly learns."""
    vae = AutoencoderKL(**CONFIG)
    with torch.no_grad():
        for module in vae.modules():
            if type(module).__name__ == "ResnetBlock2D":
                nn.init.zeros_(module.conv2.weight)
                nn.init.zeros_(module.conv2.bias)
                if module.conv_shortcut is not None:
                    _pass_through(module.conv_shortcut)
            elif type(module).__name__ == "Downsample2D":
                _average(module.conv)
            elif type(module).__name__ == "Upsample2D":
                _pass_through(module.conv)
        _split_signs(vae.encoder.conv_in)
        _gradients(vae.encoder.down_blocks[2].downsamplers[0].conv)
        _join_signs(vae.encoder.conv_out, LATENT_CHANNELS)
        _split_signs(vae.decoder.conv_in)
        _join_signs(vae.decoder.conv_out, 3)
    return vae


class LatentNorm(nn.Module):
    """Holds each latent channel near mean 0 and deviation 1 while the VAE learns.

    It divides by running figures, not by those of the batch: a batch of few pictures says little about
    colours, and the decoder would have to guess.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(LATENT_CHANNELS))
        self.register_buffer("deviation", torch.ones(LATENT_CHANNELS))

    def forward(self, latents: Tensor) -> Tensor:
        if self.training:
            self.measure(latents.detach(), weight=0.01)
        return (latents - self.mean[:, None, None]) / self.deviation[:, None, None]

    @torch.no_grad()
    def measure(self, latents: Tensor, weight: float = 1.0) -> None:
        self.mean.lerp_(latents.mean(dim=(0, 2, 3)), weight)
        self.deviation.lerp_(latents.std(dim=(0, 2, 3)), weight)

    @torch.no_grad()
    def fold_into(self, vae: AutoencoderKL) -> None:
        """Moves the figures into the encoder, which needs no norm from then on."""
        out = vae.encoder.conv_out
        out.weight[:LATENT_CHANNELS] /= self.deviation[:, None, None, None]
        out.bias[:LATENT_CHANNELS] = (out.bias[:LATENT_CHANNELS] - self.mean) / self.deviation
        out.weight[LATENT_CHANNELS:] = 0.0
        out.bias[LATENT_CHANNELS:] = 2.0 * math.log(LATENT_NOISE)


def reconstruct(vae: AutoencoderKL, norm: LatentNorm | None, pictures: Tensor, noise: float) -> Tensor:
    """Encodes, disturbs and decodes pictures in -1..1."""
    latents = vae.encoder(pictures)[:, :LATENT_CHANNELS].float()
    if norm is not None:
        latents = norm(latents)
    if noise:
        latents = latents + noise * torch.randn_like(latents)
    decoded: Tensor = vae.decoder(latents)
    return decoded.float()


def reconstruction_loss(decoded: Tensor, pictures: Tensor) -> Tensor:
    """L1 keeps edges sharp and colours even; the squared part corrects large errors early."""
    error = decoded - pictures
    return error.abs().mean() + 0.5 * error.square().mean()


SIGNALS = 14
"""Channels that start with a meaning: RGB, its negative, a constant and its negative, six slopes."""


def _pass_through(conv: nn.Conv2d) -> None:
    _quiet(conv)
    middle = conv.kernel_size[0] // 2
    for channel in range(SIGNALS):
        conv.weight[channel, channel, middle, middle] = 1.0


def _average(conv: nn.Conv2d) -> None:
    """Stride 2 over a picture padded right and below: rows and columns 0 and 1 of the kernel."""
    _quiet(conv)
    for channel in range(SIGNALS):
        conv.weight[channel, channel, :2, :2] = 0.25


def _gradients(conv: nn.Conv2d) -> None:
    """Channels 8 to 13 become the signed slopes of brightness, which say where in a block an edge runs."""
    slopes = torch.tensor([[[1.0, -1.0], [1.0, -1.0]], [[1.0, 1.0], [-1.0, -1.0]], [[1.0, -1.0], [-1.0, 1.0]]])
    weights = torch.tensor([0.5, 0.9, 0.3])
    for index, slope in enumerate(slopes):
        for sign, channel in ((1.0, 8 + index), (-1.0, 11 + index)):
            conv.weight[channel] = 0.0
            conv.weight[channel, :3, :2, :2] = 0.5 * sign * weights[:, None, None] * slope


def _split_signs(conv: nn.Conv2d) -> None:
    """Signals enter as x and -x, so that SiLU loses nothing; a constant pair holds the norm's scale steady."""
    _quiet(conv)
    for channel in range(3):
        conv.weight[channel, channel, 1, 1] = 1.0
        conv.weight[channel + 3, channel, 1, 1] = -1.0
    for channel in range(3, min(conv.in_channels, 6)):
        conv.weight[channel + 5, channel, 1, 1] = 1.0
        conv.weight[channel + 8, channel, 1, 1] = -1.0
    bias = conv.bias
    assert bias is not None
    bias[6], bias[7] = 2.0, -2.0


def _join_signs(conv: nn.Conv2d, count: int) -> None:
    """silu(x) - silu(-x) = x."""
    conv.weight *= 0.5
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    pairs = [(0, 3), (1, 4), (2, 5), (8, 11), (9, 12), (10, 13)]
    for channel, (plus, minus) in enumerate(pairs[:count]):
        conv.weight[channel] *= 0.1
        conv.weight[channel, plus, 1, 1] = 1.0
        conv.weight[channel, minus, 1, 1] = -1.0


def _quiet(conv: nn.Conv2d) -> None:
    """Channels with a meaning start at zero; the others start as usual, half as loud."""
    conv.weight *= 0.5
    conv.weight[:SIGNALS] = 0.0
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
