"""Renews the claims of this worker, on a thread and a connection of its own: a busy drawing thread can't delay it."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from uuid import UUID

import psycopg
import structlog

from storage.postgres.database import Connection, connect
from storage.predictions.claim import RENEW_EVERY_S, Claim, renew
from storage.predictions.states import PredictionStatus
from worker.attempts.attempt import Attempt

log = structlog.get_logger(__name__)

EXIT_STALLED = 70  # EX_SOFTWARE of sysexits.h
# The watchdog looks every 1.5 s. If it could not look for this long, the drawing thread most likely could not run
# either: the process was frozen, or Postgres hung. Missing progress then says nothing about the device.
FROZEN_AFTER_S = 5.0


class Leases:
    """Renews the leases of all attempts of this worker, every 1.5 s.

    `on_beat` runs on the same connection each time (for the worker's heartbeat). If an attempt is on the device and
    makes no progress for `stall_s`, its lease is not renewed: `on_stall` hands back what is not on the device, and
    the process exits. If the whole process was frozen (SIGSTOP, a laptop's sleep), the count starts again.
    """

    def __init__(
        self,
        url: str,
        *,
        stall_s: float,
        on_beat: Callable[[Connection], None],
        on_stall: Callable[[], None],
        must_leave: Callable[[], bool] = lambda: False,
    ) -> None:
        self._url = url
        self._stall_s = stall_s
        self._on_beat = on_beat
        self._on_stall = on_stall
        self._must_leave = must_leave
        self._lock = threading.Lock()
        self._held: dict[UUID, Attempt] = {}
        self._stopping = threading.Event()
        self._looked_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        self._looked_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(timeout=10)

    def hold(self, claim: Claim) -> Attempt:
        """Start an attempt whose lease is renewed until `release`."""
        attempt = Attempt(claim, must_leave=self._must_leave)
        with self._lock:
            self._held[claim.claim_id] = attempt
        return attempt

    def release(self, attempt: Attempt) -> None:
        """Stop renewing it: the attempt is finished, handed back or lost."""
        with self._lock:
            self._held.pop(attempt.claim.claim_id, None)

    def held(self) -> list[Attempt]:
        """All attempts that have not ended yet."""
        with self._lock:
            return list(self._held.values())

    def prediction_ended(self, prediction_id: str, status: PredictionStatus) -> None:
        """A notification said that this prediction is over: if it is ours, we have lost the claim."""
        for attempt in self.held():
            if attempt.id == prediction_id:
                attempt.lose(ended_as=status)

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with connect(self._url, application_name="darkroom worker leases") as conn:
                    while not self._stopping.is_set():
                        self._exit_if_stalled()
                        self._renew(conn)
                        self._on_beat(conn)
                        self._stopping.wait(RENEW_EVERY_S)
            except psycopg.Error as error:
                # We keep the attempts. The next renewal, or the fence, tells whether the claims are still ours.
                log.warning("leases.disconnected", reason=str(error).strip())
                self._exit_if_stalled()
                self._stopping.wait(0.5)

    def _renew(self, conn: Connection) -> None:
        attempts = {attempt.claim.claim_id: attempt for attempt in self.held()}
        still_held = renew(conn, [(attempt.id, claim_id) for claim_id, attempt in attempts.items()])
        for claim_id in attempts.keys() - still_held:
            with self._lock:
                finished_meanwhile = claim_id not in self._held
            if not finished_meanwhile:
                attempts[claim_id].lose()

    def _exit_if_stalled(self) -> None:
        now = time.monotonic()
        if now - self._looked_at > FROZEN_AFTER_S:
            log.warning("worker.was_frozen", for_s=round(now - self._looked_at, 1))
            for attempt in self.held():
                attempt.progressed()
        self._looked_at = now
        for attempt in self.held():
            if attempt.on_device and attempt.without_progress_s() > self._stall_s:
                without_progress_s = round(attempt.without_progress_s(), 1)
                log.error("worker.stalled", **attempt.names, without_progress_s=without_progress_s)
                self._on_stall()
                os._exit(EXIT_STALLED)  # the drawing thread hangs in the device's driver: a normal exit is impossible
