"""Listens for bells, and claims predictions when the claim loop asks.

A bell is the queue job that wakes a worker; the prediction's row is the truth. Bells are heard by LISTEN, and polling
finds those that were missed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from uuid import UUID, uuid4

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.postgres import notify as events
from storage.postgres.database import Connection
from storage.postgres.procrastinate import channel_of
from storage.predictions.claim import Claim, claim, find_claim
from storage.predictions.render import Renderer
from storage.workers import registry

log = structlog.get_logger(__name__)


class CanNotAsk(Exception):
    """Postgres is unreachable, or has removed our row, so we don't know if there is work. The next call tries again."""


class BellListener:
    """Listens for the bells of one queue, and claims its predictions.

    `on_event(payload)` is called when any prediction changes: those notifications use the same connection.
    """

    def __init__(
        self,
        pool: ConnectionPool[Connection],
        renderer: Renderer,
        *,
        direct_url: str,
        queue_name: str,
        worker_id: UUID,
        on_event: Callable[[str], None],
    ) -> None:
        self._pool = pool
        self._renderer = renderer
        self._queue_name = queue_name
        self._worker_id = worker_id
        self._on_event = on_event
        self._rung = threading.Event()
        self.bell_worker_id: int | None = None
        self._unanswered: UUID | None = None  # a claim whose connection broke: it may be committed all the same
        self._listener = events.Listener(
            direct_url,
            [channel_of(queue_name), events.CHANNEL],
            name="worker",
            on_notify=self._hear,
            on_connect=self._rung.set,
        )

    def start(self) -> None:
        self._listener.start()

    def stop(self) -> None:
        """Stop listening and remove our row from Procrastinate's table of workers."""
        self._listener.stop()
        if self.bell_worker_id is not None:
            try:
                with self._pool.connection() as conn:
                    registry.unregister_bell_worker(conn, self.bell_worker_id)
            except psycopg.Error as error:
                log.warning("bell_listener.not_unregistered", reason=str(error).strip())

    def wake(self) -> None:
        """Make `wait` return at once."""
        self._rung.set()

    def wait(self, timeout_s: float) -> None:
        """Sleep until a bell rings or `wake` is called, at most `timeout_s`."""
        self._rung.wait(timeout_s)

    def forget_bells(self) -> None:
        """Forget earlier bells: only a bell or a `wake` from now on ends the next `wait`."""
        self._rung.clear()

    def take(self, *, holds_others: bool = False) -> Claim | None:
        """Claim the next prediction; None if there is none.

        Call `forget_bells` first, so that a bell that rings during the fetch ends the next `wait`.
        Raises NeedsEmptyWorker, CanNotAsk.
        """
        try:
            with self._pool.connection() as conn:
                if self.bell_worker_id is None:
                    self.bell_worker_id = registry.register_bell_worker(conn)
                return self._find_unanswered(conn) or self._claim(conn, self.bell_worker_id, holds_others=holds_others)
        except psycopg.errors.ForeignKeyViolation as error:
            log.info("bell_listener.pruned", bell_worker_id=self.bell_worker_id)
            self.bell_worker_id = None
            self._rung.set()
            raise CanNotAsk from error
        except psycopg.OperationalError as error:
            log.warning("bell_listener.postgres_away", reason=str(error).strip().partition("\n")[0])
            raise CanNotAsk from error

    def _find_unanswered(self, conn: Connection) -> Claim | None:
        if self._unanswered is None:
            return None
        found = find_claim(conn, self._unanswered)
        self._unanswered = None
        if found is not None:
            log.info("bell_listener.unanswered_claim_found", prediction_id=found.prediction_id)
        return found

    def _claim(self, conn: Connection, bell_worker_id: int, *, holds_others: bool) -> Claim | None:
        claim_id = uuid4()
        try:
            return claim(
                conn,
                self._renderer,
                queue_name=self._queue_name,
                worker_id=self._worker_id,
                bell_worker_id=bell_worker_id,
                holds_others=holds_others,
                claim_id=claim_id,
            )
        except psycopg.OperationalError:
            self._unanswered = claim_id
            raise

    def beat(self, conn: Connection) -> None:
        """Keep our row in Procrastinate's table alive."""
        if self.bell_worker_id is not None:
            registry.beat(conn, self.bell_worker_id)

    def _hear(self, channel: str, payload: str) -> None:
        if channel == events.CHANNEL:
            self._on_event(payload)
        else:
            self._rung.set()
