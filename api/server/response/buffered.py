"""What clients have left in the memory of this process."""

from __future__ import annotations

import threading


class Buffered:
    """Bytes of all connections together: requests that are incomplete or unanswered, and answers not yet taken."""

    def __init__(self, limit: int) -> None:
        self._lock = threading.Lock()
        self.limit = limit
        self.size_bytes = 0

    def add(self, size_bytes: int) -> None:
        with self._lock:
            self.size_bytes += size_bytes

    @property
    def is_too_much(self) -> bool:
        return self.size_bytes > self.limit
