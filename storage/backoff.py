"""How long to wait before the next try: a little at first, then longer each time."""

from __future__ import annotations


class Backoff:
    """Returns `first_s`, then `factor` times as long at each call, and never more than `at_most_s`.

    It only counts; the caller sleeps, so that it can wait on an event that ends the wait. One thread uses it.
    """

    def __init__(self, first_s: float, *, at_most_s: float, factor: float = 2.0) -> None:
        self._first_s = min(first_s, at_most_s)
        self._at_most_s = at_most_s
        self._factor = factor
        self._next_s = self._first_s

    def next_s(self) -> float:
        """How long to wait now, in seconds."""
        wait_s = self._next_s
        self._next_s = min(wait_s * self._factor, self._at_most_s)
        return wait_s

    def reset(self) -> None:
        """Call this after a success: the next wait is `first_s` again."""
        self._next_s = self._first_s
