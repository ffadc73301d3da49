"""The queue of requests that wait for a thread: their owners take turns, so that none can hold up the others."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Turns(Generic[T]):
    """First in, first out for each owner; the owners take turns. Not thread-safe: callers hold a lock of their own."""

    def __init__(self) -> None:
        self._queues: OrderedDict[Hashable, deque[T]] = OrderedDict()  # the first one's turn is next
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def add(self, owner: Hashable, item: T) -> None:
        """Add behind the owner's other items. An owner that had none comes last."""
        self._queues.setdefault(owner, deque()).append(item)
        self._length += 1

    def take(self) -> T:
        """Remove the next item. Raises IndexError if there is none."""
        if not self._queues:
            raise IndexError("no item waits")
        owner, queue = next(iter(self._queues.items()))
        item = queue.popleft()
        self._length -= 1
        if queue:
            self._queues.move_to_end(owner)
        else:
            del self._queues[owner]
        return item
