"""The spans of one attempt: how long it waited, for what, and how long each phase of its drawing took."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from storage import tracing
from storage.postgres.database import Row


@dataclass
class _Phase:
    """From the beginning of its first part to the end of its last one; each in seconds since the epoch."""

    began_at: float
    ended_at: float
    parts: int = 1


@dataclass
class AttemptSpans:
    """Collects times while the attempt goes on, and sends them when it has ended. Without a trace it does nothing.

    Threads may time parts of a phase at once.
    """

    prediction: Row
    attempt: int
    loaded: tuple[float, float] | None = None  # when this worker began and ended to load its model
    _claimed_at: float = field(default_factory=tracing.now)
    _phases: dict[str, _Phase] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def _parent(self) -> str | None:
        parent: str | None = self.prediction.get("traceparent")
        return parent

    @property
    def is_on(self) -> bool:
        return tracing.is_on() and self._parent is not None

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time a part of a phase. Parts of one name are one span."""
        if not self.is_on:
            yield
            return
        began_at = tracing.now()
        try:
            yield
        finally:
            with self._lock:
                known = self._phases.setdefault(name, _Phase(began_at, began_at, parts=0))
                known.began_at = min(known.began_at, began_at)
                known.ended_at = tracing.now()
                known.parts += 1

    def send(self, ended_as: str, *, error: str | None = None) -> None:
        """`ended_as`: succeeded, failed, lost, handed_back, or reused (the cache of results had it)."""
        if not self.is_on:
            return
        self._send_waiting()
        row = self.prediction
        about = {"darkroom.prediction.id": row["id"], "darkroom.model": row["model"], "darkroom.attempt": self.attempt}
        drawing = tracing.begin("draw", self._parent, kind="consumer", attributes=about, began_at=self._claimed_at)
        for name, phase in self._phases.items():
            tracing.record(
                name, drawing.traceparent, phase.began_at, phase.ended_at, attributes={"darkroom.parts": phase.parts}
            )
        drawing.end({"darkroom.ended_as": ended_as}, error=error)

    def _send_waiting(self) -> None:
        """Send the queue span of a first attempt. For later ones it isn't known when the attempt before was lost."""
        if self.attempt > 1:
            return
        created_at = self.prediction["created_at"].timestamp()
        queue = tracing.begin("queue", self._parent, began_at=created_at)
        if self.loaded is not None and self.loaded[1] > created_at:
            tracing.record("load", queue.traceparent, *self.loaded)
        queue.end(ended_at=max(created_at, self._claimed_at))
