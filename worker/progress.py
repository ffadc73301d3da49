"""Writing the logs of what is being drawn, at most twice a second, beside the drawing thread."""

from __future__ import annotations

import threading
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.claim import Claim
from storage.database import Connection
from storage.progress import write_logs
from storage.wire import Wire

log = structlog.get_logger(__name__)

EVERY_S = 0.5  # Replicate's own rhythm for `logs` webhooks


class ProgressReports:
    """Keeps the newest logs of each claim and writes those that changed."""

    def __init__(self, pool: ConnectionPool[Connection], wire: Wire) -> None:
        self._pool = pool
        self._wire = wire
        self._lock = threading.Lock()
        self._newest: dict[UUID, tuple[str, str]] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def report(self, claim: Claim, logs: str) -> None:
        """Have these logs written at the next turn, unless newer ones come first."""
        with self._lock:
            self._newest[claim.claim_id] = (claim.prediction_id, logs)

    def forget(self, claim: Claim) -> None:
        """Write nothing more of this claim."""
        with self._lock:
            self._newest.pop(claim.claim_id, None)

    def _run(self) -> None:
        while not self._stopping.wait(EVERY_S):
            with self._lock:
                reports, self._newest = self._newest, {}
            for claim_id, (prediction_id, logs) in reports.items():
                try:
                    with self._pool.connection() as conn:
                        write_logs(conn, self._wire, prediction_id, claim_id, logs)
                except psycopg.Error as error:
                    log.warning("progress.not_written", prediction_id=prediction_id, reason=str(error).strip())
