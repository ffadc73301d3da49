"""This host's leases on demand, on a thread of their own: the main thread never waits for Postgres."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from uuid import UUID

import psycopg

from storage.postgres.database import Connection, connect
from storage.workers.demand_leases import give_back, lease_demand, renew_leases
from storage.workers.warm import NO_BOUNDS, WorkerBounds

RENEW_EVERY_S = 3.0
# How soon to ask again after there were enough workers: one of them may have ended meanwhile.
ASK_AGAIN_AFTER_S = 0.2
# A lease that was not taken within this time is given back: the predictions may have been canceled meanwhile.
UNUSED_AFTER_S = 2.0
RECONNECT_AFTER_S = 0.5


class DemandLeases:
    """`changed` is set when a lease was granted."""

    def __init__(
        self,
        url: str,
        host: UUID,
        changed: threading.Event,
        *,
        bounds_of: Callable[[str], WorkerBounds] = lambda model: NO_BOUNDS,
    ) -> None:
        """`bounds_of`: how many workers a model has at least and at most, as far as is known."""
        self._url = url
        self._bounds_of = bounds_of
        self._host = host
        self._changed = changed
        self._lock = threading.Lock()
        self._asked: list[str] = []  # models
        self._ask_again_at: dict[str, float] = {}
        self._granted: dict[str, tuple[UUID, float]] = {}  # model → a lease that waits to be fetched, since when
        self._held: set[UUID] = set()
        self._returned: list[UUID] = []
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True, name="demand leases")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """All leases are given back, if Postgres can be reached within a second."""
        self._stopping.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(1.0)

    def take(self, model: str) -> UUID | None:
        """A lease for one worker. None: it is being asked for, or there are enough workers; call again."""
        with self._lock:
            if (granted := self._granted.pop(model, None)) is not None:
                return granted[0]
            if model not in self._asked and time.monotonic() >= self._ask_again_at.get(model, 0.0):
                self._asked.append(model)
                self._news.set()
            return None

    def give_back(self, lease: UUID) -> None:
        """Its worker has signed in, or has ended."""
        with self._lock:
            self._held.discard(lease)
            self._returned.append(lease)
        self._news.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            with contextlib.suppress(psycopg.Error), connect(self._url, application_name="darkroom host") as conn:
                while not self._stopping.is_set():
                    self._work(conn)
                    if self._news.wait(RENEW_EVERY_S):
                        self._news.clear()
                self._give_all_back(conn)
            self._stopping.wait(RECONNECT_AFTER_S)

    def _work(self, conn: Connection) -> None:
        """Raises psycopg.Error; whatever was not done then is done after the reconnect."""
        with self._lock:
            asked, returned, held = list(self._asked), list(self._returned), list(self._held)
        if returned:
            give_back(conn, returned)
            with self._lock:
                self._returned = [lease for lease in self._returned if lease not in returned]
        renew_leases(conn, held)
        self._ask(conn, asked)
        self._return_unused()

    def _ask(self, conn: Connection, asked: Sequence[str]) -> None:
        for model in asked:
            lease = lease_demand(conn, model, self._host, self._bounds_of(model))
            with self._lock:
                self._asked.remove(model)
                if lease is None:
                    self._ask_again_at[model] = time.monotonic() + ASK_AGAIN_AFTER_S
                    continue
                self._held.add(lease)
                self._granted[model] = (lease, time.monotonic())
            self._changed.set()

    def _return_unused(self) -> None:
        now = time.monotonic()
        with self._lock:
            for model, (lease, since) in list(self._granted.items()):
                if now - since > UNUSED_AFTER_S:
                    del self._granted[model]
                    self._held.discard(lease)
                    self._returned.append(lease)

    def _give_all_back(self, conn: Connection) -> None:
        with self._lock:
            leases = [*self._held, *self._returned]
        give_back(conn, leases)
