"""LoRA files with random weights, written by diffusers itself."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict


def save_lora(pipeline: Any, folder: Path, *, seed: int, rank: int = 4) -> Path:
    """A LoRA on the attention of a pipeline's transformer or unet, strong enough to be seen. Returns its file."""
    part = "transformer" if hasattr(pipeline, "transformer") else "unet"
    model = copy.deepcopy(getattr(pipeline, part))
    model.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=["to_q", "to_k", "to_v"]))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.3)
    kind = type(pipeline)
    kind.save_lora_weights(folder, **{f"{part}_lora_layers": get_peft_model_state_dict(model)})
    return folder / "pytorch_lora_weights.safetensors"
