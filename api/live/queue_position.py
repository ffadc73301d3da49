"""The queue position of a prediction, and when it may start: an estimate from measured times, if there is one."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

import psycopg
from psycopg_pool import ConnectionPool

from storage.catalog import Catalog
from storage.postgres.clock import DatabaseClock
from storage.postgres.database import Connection, Row
from storage.postgres.listener import EventListener
from storage.predictions.render import timestamp
from storage.workers.queue_state import QueueState, read_queue_state

# However much moves, one process asks the database about one model no more often than this.
READ_AT_MOST_EVERY_S = 1.0
# An estimate that moved by less is not worth an event.
WORTH_TELLING_S = 5.0
STUCK = "no worker could start; the logs say why"
NOT_MEASURED = "how long this model takes to start or to draw was not measured here yet"


@dataclass(frozen=True)
class Waiting:
    """A prediction that no worker has claimed yet."""

    position: int  # 1 is next
    is_loading: bool  # no worker is ready, and one loads the model
    starts_at: datetime | None  # estimated; None: unknown
    clock: DatabaseClock
    reason: str = ""  # why the start time is unknown

    @property
    def event(self) -> Literal["queued", "loading"]:
        """The name of the event that tells it."""
        return "loading" if self.is_loading else "queued"

    def to_json(self) -> dict[str, Any]:
        if self.starts_at is None:
            unknown = {"estimated_start": None, "estimated_wait_seconds": None}
            return {"position": self.position, **unknown, "reason": self.reason}
        left_s = max(0.0, (self.starts_at - self.clock.now()).total_seconds())
        return {
            "position": self.position,
            "estimated_start": timestamp(self.starts_at),
            "estimated_wait_seconds": round(left_s, 1),
        }

    def differs_from(self, told: Waiting | None) -> bool:
        """Whether a listener that got that event should get this one."""
        if told is None or (self.position, self.is_loading) != (told.position, told.is_loading):
            return True
        if self.starts_at is None or told.starts_at is None:
            return self.starts_at is not told.starts_at or self.reason != told.reason
        return abs((self.starts_at - told.starts_at).total_seconds()) > WORTH_TELLING_S


class QueuePositions:
    """The queues of one process's listeners. It reads a queue only after something was notified."""

    def __init__(
        self, pool: ConnectionPool[Connection], events: EventListener, catalog: Catalog, clock: DatabaseClock
    ) -> None:
        self._pool = pool
        self._clock = clock
        self._events = events
        self._catalog = catalog
        self._lock = threading.Lock()
        self._states: dict[str, tuple[QueueState, int, float]] = {}  # by model: state, events.moves, monotonic time

    def of(self, prediction: Row) -> Waiting | None:
        """Where a `starting` prediction stands, or None: it is in the queue no more, or Postgres is away."""
        try:
            state, is_new = self._state(prediction["model"])
            if not is_new and state.place_of(prediction["id"]) is None:  # a submit sends no notification on our channel
                state, _ = self._state(prediction["model"], read_anyway=True)
        except psycopg.OperationalError:
            return None
        place = state.place_of(prediction["id"])
        if place is None:
            return None
        if state.is_stuck:
            return Waiting(position=place + 1, is_loading=False, starts_at=None, clock=self._clock, reason=STUCK)
        begins_in_s = state.seconds_until_start(place)
        if begins_in_s is None:
            return Waiting(
                position=place + 1,
                is_loading=state.is_loading,
                starts_at=None,
                clock=self._clock,
                reason=NOT_MEASURED,
            )
        begins_at = state.read_at + timedelta(seconds=begins_in_s)
        return Waiting(
            position=place + 1,
            is_loading=state.is_loading,
            starts_at=max(begins_at, self._clock.now()),
            clock=self._clock,
        )

    def _state(self, model: str, *, read_anyway: bool = False) -> tuple[QueueState, bool]:
        """The queue, and whether it was read just now."""
        with self._lock:  # held while reading: a hundred listeners of one model ask once
            moves, now = self._events.moves, time.monotonic()
            known = self._states.get(model)
            if known is not None and not read_anyway:
                state, seen_moves, read_at = known
                if seen_moves == moves or now - read_at < READ_AT_MOST_EVERY_S:
                    return state, False
            with self._pool.connection() as conn:
                state = self._read(conn, model)
            self._states[model] = (state, moves, now)
            return state, True

    def _read(self, conn: Connection, name: str) -> QueueState:
        model = self._catalog.models.get(name)  # None: it was taken out of the catalog, so nothing will draw it
        version, max_images = ("", 1) if model is None else (model.version, model.max_batch)
        return read_queue_state(conn, name, version=version, max_images=max_images)
