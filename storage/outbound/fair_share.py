"""Slots that several owners share so that no owner can take them all."""

from __future__ import annotations

from collections.abc import Hashable


class FairShare:
    """Counts slots. An owner may take another one while it holds fewer than are free.

    So one owner alone gets half of them, a second one half of the rest, and so on: of 24 slots, those who never give
    theirs back get 12, 6, 3, 2 and 1, and it takes five of them to leave nothing for a sixth. With a single slot the
    rule is a plain lock. It is not thread-safe: callers hold a lock of their own.
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
