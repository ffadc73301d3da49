"""Waiting for what another thread or process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def eventually(
    holds: Callable[[], bool],
    timeout_s: float = 150.0,
    explain: Callable[[], str] = lambda: "",
    *,
    every_s: float = 0.01,
) -> None:
    """Return as soon as it holds. Raises AssertionError after `timeout_s`, which is long: machines are busy.

    `explain` is asked for more words then.
    """
    give_up_at = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < give_up_at, f"still not so after {timeout_s:g} s. {explain()}"
        time.sleep(every_s)
