"""Slots that several owners share so that no owner can take them all."""

from __future__ import annotations

from collections.abc import Hashable


class FairShare:
    """Counts slots. An owner may take another slot while it holds fewer than are free.

    So the first owner gets half of the slots, the second gets half of the rest, and so on. If owners never give slots
    back, five owners together take all of 24 slots: 12, 6, 3, 2 and 1. With a single slot, this is a plain lock. Not
    thread-safe: the caller must hold a lock.
    """

    def __init__(self, slots: int) -> None:
        self.free = slots
        self._held: dict[Hashable, int] = {}

    def held_by(self, owner: Hashable) -> int:
        return self._held.get(owner, 0)

    def has_room_for(self, owner: Hashable) -> bool:
        return self.held_by(owner) < self.free

    def take(self, owner: Hashable) -> None:
        assert self.has_room_for(owner)
        self._held[owner] = self.held_by(owner) + 1
        self.free -= 1

    def give_back(self, owner: Hashable) -> None:
        self.free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]

    @property
    def is_idle(self) -> bool:
        return not self._held
