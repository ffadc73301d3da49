"""How many stand before a prediction, and when it may begin: an estimate, a cold start counted in."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg_pool import ConnectionPool

from storage.postgres.database import Connection, Row
from storage.postgres.listener import Hub
from storage.predictions.render import timestamp
from storage.workers.queue_state import QueueState, read_queue_state

# However much moves, one process asks the database about one model no more often than this.
READ_AT_MOST_EVERY_S = 1.0
# An estimate that moved by less is not worth an event.
WORTH_TELLING_S = 5.0


@dataclass(frozen=True)
class Waiting:
    """A prediction that nobody draws yet."""

    position: int  # 1 is next
    is_loading: bool  # no worker is ready, and one loads the model
    starts_at: datetime | None  # estimated; None: no worker could start, so nobody knows

    def to_json(self) -> dict[str, Any]:
        if self.starts_at is None:
            unknown = {"estimated_start": None, "estimated_wait_seconds": None}
            return {"position": self.position, **unknown, "reason": "no worker could start; the logs say why"}
        left_s = max(0.0, (self.starts_at - datetime.now(UTC)).total_seconds())
        return {
            "position": self.position,
            "estimated_start": timestamp(self.starts_at),
            "estimated_wait_seconds": round(left_s, 1),
        }

    def differs_from(self, told: Waiting | None) -> bool:
        """Whether a listener who was told that should be told this."""
        if told is None or (self.position, self.is_loading) != (told.position, told.is_loading):
            return True
        if self.starts_at is None or told.starts_at is None:
            return self.starts_at is not told.starts_at
        return abs((self.starts_at - told.starts_at).total_seconds()) > WORTH_TELLING_S


class QueuePositions:
    """The queues of one process's listeners. It reads a queue only after something was notified."""

    def __init__(self, pool: ConnectionPool[Connection], hub: Hub) -> None:
        self._pool = pool
        self._hub = hub
        self._lock = threading.Lock()
        self._states: dict[str, tuple[QueueState, int, float]] = {}  # by model: state, hub's moves, monotonic time

    def of(self, prediction: Row) -> Waiting | None:
        """Where a `starting` prediction stands, or None: it is in the queue no more, or Postgres is away."""
        try:
            state, is_new = self._state(prediction["model"])
            if not is_new and state.place_of(prediction["id"]) is None:  # a submit notifies nobody of our channel
                state, _ = self._state(prediction["model"], read_anyway=True)
        except psycopg.OperationalError:
            return None
        place = state.place_of(prediction["id"])
        if place is None:
            return None
        if state.is_stuck:
            return Waiting(position=place + 1, is_loading=False, starts_at=None)
        begins_at = state.read_at + timedelta(seconds=state.seconds_until_start(place))
        return Waiting(position=place + 1, is_loading=state.is_loading, starts_at=max(begins_at, datetime.now(UTC)))

    def _state(self, model: str, *, read_anyway: bool = False) -> tuple[QueueState, bool]:
        """The queue, and whether it was read just now."""
        with self._lock:  # held while reading: a hundred listeners of one model ask once
            moves, now = self._hub.moves, time.monotonic()
            known = self._states.get(model)
            if known is not None and not read_anyway:
                state, seen_moves, read_at = known
                if seen_moves == moves or now - read_at < READ_AT_MOST_EVERY_S:
                    return state, False
            with self._pool.connection() as conn:
                state = read_queue_state(conn, model)
            self._states[model] = (state, moves, now)
            return state, True
