"""Slots for requests that hold a thread for long, so that some threads are left for all others."""

from __future__ import annotations

import threading


class Slots:
    """So many at the same time, and not one more."""

    def __init__(self, number: int) -> None:
        self._lock = threading.Lock()
        self._number = number
        self._taken = 0

    @property
    def taken(self) -> int:
        return self._taken

    def take(self) -> bool:
        """Take one; False where none is free."""
        with self._lock:
            if self._taken >= self._number:
                return False
            self._taken += 1
            return True

    def give_back(self) -> None:
        with self._lock:
            assert self._taken > 0
            self._taken -= 1
