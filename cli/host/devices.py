"""The GPUs of this machine, found without importing torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

NVIDIA = Path("/proc/driver/nvidia/gpus")  # a folder for each GPU, in the order of the bus


def count_gpus(env: Mapping[str, str], drivers_list: Path = NVIDIA) -> int:
    """How many GPUs a worker that is started with `env` would see. CUDA_VISIBLE_DEVICES limits them."""
    visible = env.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in ("", "-1")])
    return len(list(drivers_list.iterdir())) if drivers_list.is_dir() else 0


def device_of(place: int, *, gpus: int, asked: str) -> dict[str, str]:
    """The setting that puts the worker in `place` (1, 2, …) on a GPU of its own; none if there is nothing to choose.

    With more places than GPUs, several workers share one. A DEVICE other than `auto` is the operator's choice.
    """
    if asked not in ("", "auto") or gpus < 2:
        return {}
    return {"DEVICE": f"cuda:{(place - 1) % gpus}"}
