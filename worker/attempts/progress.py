"""Reports progress on a thread of its own: an event for each step, previews, and the predictions' `logs`."""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.postgres.database import Connection
from storage.postgres.notify import notify_all
from storage.predictions.claim import Claim
from storage.predictions.progress import write_logs
from storage.predictions.render import Renderer
from worker.publish.preview import encode_preview

if TYPE_CHECKING:
    from PIL.Image import Image

log = structlog.get_logger(__name__)

LOGS_EVERY_S = 0.5  # as often as Replicate sends `logs` webhooks
EVENTS_EVERY_S = 0.05  # one NOTIFY transaction for all drawings, at most 20 a second


class ProgressReports:
    """Sends every step and the newest preview of each drawing, and writes the newest logs of each claim."""

    def __init__(self, pool: ConnectionPool[Connection], renderer: Renderer) -> None:
        self._pool = pool
        self._renderer = renderer
        self._lock = threading.Lock()
        self._logs: dict[UUID, tuple[str, str]] = {}
        self._steps: list[dict[str, Any]] = []
        self._previews: dict[str, tuple[dict[str, Any], Callable[[], Image]]] = {}
        self._news = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._news.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def report(
        self, claim: Claim, logs: str, *, step: int, steps: int, preview: Callable[[], Image] | None = None
    ) -> None:
        """Report a step. `logs` are written within LOGS_EVERY_S, unless newer ones replace them."""
        with self._lock:
            self._logs[claim.claim_id] = (claim.prediction_id, logs)
            whose = {"id": claim.prediction_id, "status": "processing", "token_id": claim.prediction["token_id"]}
            self._steps.append(whose | {"step": step, "steps": steps})
            if preview is not None:
                self._previews[claim.prediction_id] = (whose, preview)
        self._news.set()

    def forget(self, claim: Claim) -> None:
        """Report nothing more about this claim."""
        with self._lock:
            self._logs.pop(claim.claim_id, None)
            self._previews.pop(claim.prediction_id, None)

    def _run(self) -> None:
        write_logs_at = time.monotonic() + LOGS_EVERY_S
        while not self._stopping.is_set():
            self._news.wait(max(0.0, write_logs_at - time.monotonic()) if self._logs else None)
            self._news.clear()
            try:
                self._send_events()
                if time.monotonic() >= write_logs_at:
                    self._write_logs()
                    write_logs_at = time.monotonic() + LOGS_EVERY_S
            except psycopg.Error as error:  # it is out of date when Postgres is back, so it is not sent again
                log.warning("progress.not_sent", reason=str(error).strip().partition("\n")[0])
            except Exception:
                log.exception("progress.failed")
            self._stopping.wait(EVENTS_EVERY_S)

    def _send_events(self) -> None:
        with self._lock:
            events, self._steps = self._steps, []
            previews, self._previews = self._previews, {}
        for whose, preview in previews.values():
            encoded = encode_preview(preview())
            if encoded is not None:
                events.append(whose | {"preview": base64.b64encode(encoded).decode()})
        if events:
            with self._pool.connection() as conn:
                notify_all(conn, events)

    def _write_logs(self) -> None:
        with self._lock:
            logs, self._logs = self._logs, {}
        for claim_id, (prediction_id, text) in logs.items():
            with self._pool.connection() as conn:
                write_logs(conn, self._renderer, prediction_id, claim_id, text)
