"""Moves a pipeline's weights to main memory and back, so that another process can use the device meanwhile.

On a GPU, the main memory is pinned if there is enough of it: copies are about 40 times as fast then (12 GB in 0.22 s on
an H200, docs/benchmarks-gpu.md), but pinning it takes seconds, once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psutil
import torch

from worker.engine.device.errors import free_unused

# Pinned in large pieces: torch rounds each up to a power of two, and asking the driver takes a moment each time.
PIECE_BYTES = 1024**3
ALIGNED_TO = 64
# Pinned memory can't be swapped out, so so much is left to everything else.
KEPT_FREE_SHARE = 0.2


class Weights:
    """The weights of one pipeline. The copies in main memory are made once and kept: weights don't change."""

    def __init__(self, pipeline: Any, device: torch.device) -> None:
        self._pipeline = pipeline
        self._device = device
        self._copies: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by id: the tensor, and its copy
        self._room: _Room | None = None
        self.are_away = False

    def move_away(self, goes_on: Callable[[], bool] = lambda: True) -> bool:
        """Copy them to main memory and free the device's. Nothing has happened if `goes_on` says no meanwhile: False.

        Not to be called in inference mode.
        """
        tensors = list(_tensors_of(self._pipeline))
        if self._room is None:
            self._room = _Room(pinned=self._device.type == "cuda" and _may_pin(sum(each.nbytes for each in tensors)))
        for tensor in tensors:
            if not goes_on():
                return False
            if id(tensor) not in self._copies:
                copy = self._room.like(tensor)
                copy.copy_(tensor)
                self._copies[id(tensor)] = tensor, copy
        for tensor in tensors:
            tensor.data = self._copies[id(tensor)][1]
        self.are_away = True
        free_unused()
        return True

    def bring_back(self) -> None:
        """Copy them to the device again. Raises torch's errors; then they are still away."""
        try:
            for tensor, copy in self._copies.values():
                tensor.data = copy.to(self._device, non_blocking=True, copy=True)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
        except Exception:
            for tensor, copy in self._copies.values():
                tensor.data = copy
            raise
        self.are_away = False


class _Room:
    """Main memory for copies of tensors."""

    def __init__(self, *, pinned: bool) -> None:
        self._pinned = pinned
        self._piece = torch.empty(0, dtype=torch.uint8)
        self._used = 0

    def like(self, tensor: torch.Tensor) -> torch.Tensor:
        """An empty tensor of the same shape, laid out in the same way."""
        size = tensor.nbytes
        if not self._pinned or size > PIECE_BYTES or not _is_dense(tensor):
            return torch.empty_like(tensor, device="cpu", pin_memory=self._pinned)
        if self._used + size > len(self._piece):
            self._piece, self._used = torch.empty(PIECE_BYTES, dtype=torch.uint8, pin_memory=True), 0
        flat = self._piece[self._used : self._used + size].view(tensor.dtype)
        self._used += -(-size // ALIGNED_TO) * ALIGNED_TO
        return flat.as_strided(tensor.size(), tensor.stride(), flat.storage_offset())


def _tensors_of(pipeline: Any) -> Iterator[torch.Tensor]:
    """Each parameter and each buffer of its parts, once."""
    seen = set()
    for part in pipeline.components.values():
        if not isinstance(part, torch.nn.Module):
            continue
        for tensor in (*part.parameters(), *part.buffers()):
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield tensor


def _is_dense(tensor: torch.Tensor) -> bool:
    """Whether its elements lie side by side in memory, in any order of the dimensions."""
    room = 1
    for stride, size in sorted(zip(tensor.stride(), tensor.size(), strict=True)):
        if size > 1 and stride != room:
            return False
        room *= size
    return True


def _may_pin(size_bytes: int) -> bool:
    memory = psutil.virtual_memory()
    return bool(memory.available - size_bytes > KEPT_FREE_SHARE * memory.total)
