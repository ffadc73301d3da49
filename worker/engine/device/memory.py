"""Free memory of a CUDA device, and the peak of the latest call."""

from __future__ import annotations

import torch

from worker.engine.interface import Memory


class DeviceMemory:
    """Does not count what is on the device when it is created: the weights."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._weights = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0

    def watch(self) -> None:
        """Start measuring the peak."""
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)

    def now(self) -> Memory | None:
        """None if torch doesn't measure it (main memory, Metal)."""
        if self._device.type != "cuda":
            return None
        free, _ = torch.cuda.mem_get_info(self._device)
        kept = torch.cuda.memory_reserved(self._device) - torch.cuda.memory_allocated(self._device)
        return Memory(free=free + kept, peak=torch.cuda.max_memory_allocated(self._device) - self._weights)
