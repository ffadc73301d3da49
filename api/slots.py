"""Slots for requests that occupy a thread for long, so that some threads stay free for all other requests."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Hashable
from typing import Generic, TypeVar

Owner = TypeVar("Owner", bound=Hashable)


class Slots(Generic[Owner]):
    """A fixed number of slots, shared by owners (tokens) so that no owner can take all of them.

    An owner may take another slot while it holds fewer than are free: one alone gets half of them, as with the slots of
    the courier (`storage.outbound.fair_share`). Without an owner (the API needs no token) any free slot is taken.
    """

    def __init__(self, number: int) -> None:
        self._lock = threading.Lock()
        self._number = number
        self._held: Counter[Owner | None] = Counter()

    @property
    def taken(self) -> int:
        return self._held.total()

    def take(self, owner: Owner | None = None) -> bool:
        """Take a slot. Returns False if this owner can't have one now."""
        with self._lock:
            free = self._number - self._held.total()
            if free <= 0 or (owner is not None and self._held[owner] >= free):
                return False
            self._held[owner] += 1
            return True

    def give_back(self, owner: Owner | None = None) -> None:
        with self._lock:
            assert self._held[owner] > 0
            self._held[owner] -= 1
            if not self._held[owner]:
                del self._held[owner]
