"""A cache of encoded prompts, limited in bytes. The least recently used are dropped first."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch

MAX_BYTES = 256 * 1024 * 1024  # about 500 prompts of 100 tokens for Z-Image (2,560 numbers a token, bfloat16)


class EmbeddingCache:
    """Maps a text to its embedding. It returns the stored tensor itself, so a reused one is bit-identical."""

    def __init__(self, encode: Callable[[str], torch.Tensor], *, max_bytes: int = MAX_BYTES) -> None:
        self._encode = encode
        self._max_bytes = max_bytes
        self._kept: OrderedDict[str, torch.Tensor] = OrderedDict()
        self.size_bytes = 0

    def get(self, text: str) -> torch.Tensor:
        """The embedding of a text. Don't change the tensor in place."""
        if text in self._kept:
            self._kept.move_to_end(text)
            return self._kept[text]
        embedding = self._encode(text)
        if embedding.nbytes <= self._max_bytes:
            self._kept[text] = embedding
            self.size_bytes += embedding.nbytes
            while self.size_bytes > self._max_bytes:
                self.size_bytes -= self._kept.popitem(last=False)[1].nbytes
        return embedding

    def clear(self) -> None:
        """Forget all of them."""
        self._kept.clear()
        self.size_bytes = 0
