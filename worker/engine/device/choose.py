"""The device that an engine draws on: which one DEVICE asks for, and what people call it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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
    """The product name of the device: "cpu", "NVIDIA H100 80GB HBM3"."""
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def describe(asked: str) -> dict[str, Any]:
    """The device by that name: `name`, `memory_bytes` (None if it draws in main memory), `bf16`; or an `error`."""
    import torch

    try:
        device = choose_device(asked)
        torch.ones(2, device=device).sum().item()  # a broken driver shows here
    except (ModelNotLoaded, RuntimeError) as error:
        return {"error": str(error).strip().partition("\n")[0]}
    is_cuda = device.type == "cuda"
    return {
        "name": device_name(device),
        "memory_bytes": torch.cuda.get_device_properties(device).total_memory if is_cuda else None,
        "bf16": torch.cuda.is_bf16_supported() if is_cuda else True,
    }
