"""The transformer, and a forward pass of it that is quick enough to train on a CPU.

`ZImageTransformer2DModel.forward` takes lists of pictures of any size and turns positions with complex
numbers. Training has whole batches of one size: the same modules, batched, with real numbers. A test holds
that both give the same answer.
"""

import math
from functools import cache
from typing import Any

import torch
from diffusers import ZImageTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional

from .text import CAPTION_MULTIPLE, HIDDEN
from .vae import LATENT_CHANNELS

AXES_DIMS = (8, 12, 12)
THETA = 256.0
PATCH = 2

CONFIG: dict[str, Any] = {
    "all_patch_size": (PATCH,),
    "all_f_patch_size": (1,),
    "in_channels": LATENT_CHANNELS,
    "dim": 128,
    "n_layers": 7,
    "n_refiner_layers": 1,
    "n_heads": 4,
    "n_kv_heads": 4,
    "cap_feat_dim": HIDDEN,
    "rope_theta": THETA,
    "axes_dims": list(AXES_DIMS),
    "axes_lens": [1024, 128, 128],
}


def build_transformer() -> ZImageTransformer2DModel:
    """Gates start open (at zero the model would ignore the time step), the last layer starts at zero."""
    model = ZImageTransformer2DModel(**CONFIG)
    dim = model.dim
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 2 and "adaLN" not in name and "pad_token" not in name:
                nn.init.normal_(parameter, std=1.0 / math.sqrt(parameter.shape[1]))
        for block in [*model.noise_refiner, *model.layers]:
            modulation = block.adaLN_modulation[0]
            nn.init.normal_(modulation.weight, std=0.02)
            nn.init.zeros_(modulation.bias)
            modulation.bias[dim : 2 * dim] = 0.3
            modulation.bias[3 * dim :] = 0.3
        final = model.all_final_layer[f"{PATCH}-1"]
        nn.init.zeros_(final.linear.weight)
        nn.init.zeros_(final.linear.bias)
        nn.init.normal_(final.adaLN_modulation[1].weight, std=0.02)
        nn.init.zeros_(final.adaLN_modulation[1].bias)
        nn.init.normal_(model.cap_pad_token, std=0.5)
        nn.init.normal_(model.x_pad_token, std=0.5)
    return model


def use_real_rotation(model: ZImageTransformer2DModel) -> None:
    """Makes the blocks take (cosine, sine) where they took complex numbers. Not for the exported model."""
    for block in [*model.noise_refiner, *model.context_refiner, *model.layers]:
        block.attention.set_processor(_RealRotation())


def predict(model: ZImageTransformer2DModel, noisy: Tensor, t: Tensor, caption: Tensor, lengths: Tensor) -> Tensor:
    """The velocity (latents minus noise) for latents (batch, channels, height, width) at times t.

    `caption` holds the text encoder's states, padded to a multiple of 32; `lengths` says how many are real.
    Under autocast, what blocks add up and the last layer stay in float32.
    """
    batch, channels, height, width = noisy.shape
    rows, columns, text = height // PATCH, width // PATCH, caption.shape[1]
    time = model.t_embedder(t * model.t_scale).float()
    tokens = noisy.view(batch, channels, rows, PATCH, columns, PATCH).permute(0, 2, 4, 3, 5, 1)
    x = model.all_x_embedder[f"{PATCH}-1"](tokens.reshape(batch, rows * columns, PATCH * PATCH * channels)).float()
    padding = -(rows * columns) % CAPTION_MULTIPLE
    if padding:
        x = torch.cat([x, model.x_pad_token.expand(batch, padding, -1)], dim=1)
    picture_turn, text_turn = rotation(text, rows, columns, noisy.device)
    for block in model.noise_refiner:
        x = block(x, None, picture_turn, time)
    words = model.cap_embedder(caption).float()
    is_pad = torch.arange(text, device=noisy.device)[None, :] >= lengths[:, None]
    words = torch.where(is_pad[..., None], model.cap_pad_token, words)
    for block in model.context_refiner:
        words = block(words, None, text_turn)
    x = torch.cat([x, words], dim=1)
    turn = torch.cat([picture_turn, text_turn], dim=1)
    for block in model.layers:
        x = block(x, None, turn, time)
    with torch.autocast(noisy.device.type, enabled=False):
        out = model.all_final_layer[f"{PATCH}-1"](x[:, : rows * columns], c=time)
    out = out.view(batch, rows, columns, PATCH, PATCH, channels).permute(0, 5, 1, 3, 2, 4)
    velocity: Tensor = out.reshape(batch, channels, height, width)
    return velocity


@cache
def rotation(text: int, rows: int, columns: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (2, tokens, 1, head dimension / 2), of the picture's and of the caption's tokens."""
    grid = torch.cartesian_prod(torch.tensor([text + 1]), torch.arange(rows), torch.arange(columns))
    padding = torch.zeros(-(rows * columns) % CAPTION_MULTIPLE, 3, dtype=torch.long)
    caption = torch.zeros(text, 3, dtype=torch.long)
    caption[:, 0] = torch.arange(1, text + 1)
    return _turns(torch.cat([grid, padding])).to(device), _turns(caption).to(device)


def _turns(ids: Tensor) -> Tensor:
    angles = []
    for axis, size in enumerate(AXES_DIMS):
        frequencies = 1.0 / (THETA ** (torch.arange(0, size, 2, dtype=torch.float64) / size))
        angles.append(ids[:, axis, None].double() * frequencies)
    angle = torch.cat(angles, dim=-1)[:, None, :]
    return torch.stack([angle.cos(), angle.sin()]).float()


class _RealRotation:
    """Attention as in diffusers' processor, with positions as cosines and sines."""

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        freqs_cis: Tensor | None = None,
    ) -> Tensor:
        assert freqs_cis is not None
        shape = (*hidden_states.shape[:2], attn.heads, -1)
        query = _turn(attn.norm_q(attn.to_q(hidden_states).view(shape)), freqs_cis)
        key = _turn(attn.norm_k(attn.to_k(hidden_states).view(shape)), freqs_cis)
        value = attn.to_v(hidden_states).view(shape)
        query, key, value = (part.to(value.dtype).transpose(1, 2) for part in (query, key, value))
        out = functional.scaled_dot_product_attention(query, key, value)
        joined: Tensor = attn.to_out[0](out.transpose(1, 2).flatten(2))
        return joined


def _turn(x: Tensor, turn: Tensor) -> Tensor:
    cosine, sine = turn[0], turn[1]
    pairs = x.float().view(*x.shape[:-1], -1, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    return torch.stack([even * cosine - odd * sine, even * sine + odd * cosine], dim=-1).flatten(-2)
