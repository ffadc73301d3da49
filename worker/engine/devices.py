"""The device that an engine draws on: which one DEVICE asks for, and what people call it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from worker.engine.interface import ModelNotLoaded

if TYPE_CHECKING:
    import torch


def choose_device(asked: str) -> torch.device:
    """Return the device that DEVICE names; `auto` is the first one there is. Raises ModelNotLoaded."""
    import torch

    if asked == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(asked)
    except RuntimeError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelNotLoaded(f"DEVICE={asked}: {type(error).__name__}: {reason}") from None
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ModelNotLoaded(f"DEVICE={asked}, but torch {torch.__version__} sees no CUDA device here")
    return device


def device_name(device: torch.device) -> str:
    """What people call it: "cpu", "NVIDIA H100 80GB HBM3"."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)
