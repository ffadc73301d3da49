"""Memory for pictures: requests take turns, so that many uploads at once take no more of it than a few."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager

from api.errors import Problem
from api.server.threads import expect_to_sleep

MAX_WAIT_S = 60.0


class PictureMemory:
    """A number of bytes that all requests of the process share, first come, first served."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._free_bytes = size_bytes
        self._queue: deque[object] = deque()
        self._changed = threading.Condition()

    @contextmanager
    def of(self, size_bytes: int) -> Iterator[None]:
        """Hold this much in the block; what is larger than all of it waits for all of it. Don't nest.

        Raises Problem (503) if it was not to be had within MAX_WAIT_S.
        """
        wanted, me = min(size_bytes, self.size_bytes), object()
        with self._changed:
            self._queue.append(me)
            is_next = self._is_turn_of(me, wanted)
            if not is_next:
                expect_to_sleep()
                is_next = self._changed.wait_for(lambda: self._is_turn_of(me, wanted), MAX_WAIT_S)
            self._queue.remove(me)
            if is_next:
                self._free_bytes -= wanted
            self._changed.notify_all()
        if not is_next:
            raise Problem(
                503,
                "Too many pictures",
                "too many pictures are being read already: try again",
                headers={"Retry-After": "5"},
            )
        try:
            yield
        finally:
            with self._changed:
                self._free_bytes += wanted
                self._changed.notify_all()

    def _is_turn_of(self, me: object, wanted: int) -> bool:
        return self._queue[0] is me and self._free_bytes >= wanted
