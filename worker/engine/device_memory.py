"""What a CUDA device has left, and the most that a call had in use."""

from __future__ import annotations

import torch

from worker.engine.interface import Memory


class DeviceMemory:
    """Counts beyond what lies on the device when this is made: the weights."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._weights = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0

    def watch(self) -> None:
        """Count the peak from here on."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def now(self) -> Memory | None:
        """None where torch keeps no count (main memory, Metal)."""
        if self._device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(self._device)
        kept = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return Memory(free=free + kept, peak=torch.cuda.max_memory_allocated(self._device) - self._weights)
