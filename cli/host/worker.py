"""A worker process of this host, as the host knows it."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from uuid import UUID

from cli.host.frozen_workers import Silence
from cli.supervision.supervise import Child

# A worker that loads is not stopped for another model, unless it has been loading for longer than this.
LOADING_AT_MOST_S = 600.0


@dataclass
class Worker:
    """All times are of `time.monotonic()`."""

    child: Child
    model: str
    place: int  # also while it stands by: the last one that it had
    silence: Silence
    started_at: float = field(default_factory=time.monotonic)  # or woken
    ready_at: float | None = None
    idle_since: float | None = None
    leaving: bool = False
    makes_place_for: str | None = None
    lease: UUID | None = None  # held until it has signed in
    stands_by: bool | None = None  # what it was told last; None: nothing
    ordered_at: float = 0.0
    first_ordered_at: float = 0.0

    @property
    def pid(self) -> int:
        return self.child.process.pid

    def turn_s(self, now: float) -> float | None:
        """For how long it has been able to draw; None while it loads, as long as that may take."""
        if self.ready_at is not None:
            return now - self.ready_at
        return math.inf if now - self.started_at >= LOADING_AT_MOST_S else None
