"""How many predictions of each model were drawn: the totals in Postgres, remembered for a few seconds."""

from __future__ import annotations

import threading
import time

import psycopg
from psycopg_pool import ConnectionPool

from storage.operator.totals import read_run_counts
from storage.postgres.database import Connection

REMEMBER_S = 5.0


class RunCounts:
    """One process's knowledge of them. Threads may share it."""

    def __init__(self, pool: ConnectionPool[Connection]) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._counts: dict[str, int] | None = None
        self._read_at = 0.0

    def now(self) -> dict[str, int]:
        """By model; a model without any is not in it.

        While Postgres is away, it is what was read last. Raises psycopg.OperationalError if nothing was.
        """
        with self._lock:
            if self._counts is None or time.monotonic() - self._read_at >= REMEMBER_S:
                try:
                    with self._pool.connection() as conn:
                        self._counts = read_run_counts(conn)
                except psycopg.OperationalError:
                    if self._counts is None:
                        raise
                self._read_at = time.monotonic()
            return self._counts
