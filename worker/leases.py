"""Keeping claims alive, on a thread and a connection of their own: a busy drawing thread must not lose them."""

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

log = structlog.get_logger(__name__)

EXIT_STALLED = 70  # EX_SOFTWARE of sysexits.h
# The watchdog looks every 1.5 s. Where it was kept from it for so long, so was the drawing thread, most likely: the
# process was frozen, or Postgres hung, and what did not happen meanwhile says nothing about the device.
FROZEN_AFTER_S = 5.0


class ClaimLost(Exception):
    """Somebody else decides about this prediction now: drop the work, touch nothing."""


class MustLeave(Exception):
    """The worker has to leave before this prediction is published: it is handed back."""


class HeldClaim:
    """A claim in this process, and whether it is still ours."""

    def __init__(self, claim: Claim, *, must_leave: Callable[[], bool] = lambda: False) -> None:
        self.claim = claim
        self._must_leave = must_leave
        self._on_device = False
        self._lost = threading.Event()
        self._progressed_at = time.monotonic()

    @property
    def on_device(self) -> bool:
        """It is on the device right now: if that hangs or dies, this prediction may be why."""
        return self._on_device

    @on_device.setter
    def on_device(self, value: bool) -> None:
        self.progressed()
        self._on_device = value

    def progressed(self) -> None:
        """Say that the work goes on: without it, a wedged device would keep its claim for ever."""
        self._progressed_at = time.monotonic()

    def without_progress_s(self) -> float:
        return time.monotonic() - self._progressed_at

    def lose(self) -> None:
        self._lost.set()

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    def raise_if_must_leave(self) -> None:
        """Raise MustLeave where the grace period is over."""
        if self._must_leave():
            raise MustLeave

    def raise_if_lost(self) -> None:
        """Raise ClaimLost where a renewal or a notification said so."""
        if self.is_lost:
            raise ClaimLost(self.claim.prediction_id)


class Leases:
    """Renews the leases of the claims that are held, every 1.5 s.

    `on_beat` runs on the same connection at every turn (the worker's own signs of life). A claim that is on the
    device and makes no progress for `stall_s` is not renewed: `on_stall` hands back what is not on the device, and
    the process exits. A process that was frozen as a whole (SIGSTOP, a laptop's sleep) begins that count anew.
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
        self._held: dict[UUID, HeldClaim] = {}
        self._stopping = threading.Event()
        self._looked_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="leases", daemon=True)

    def start(self) -> None:
        self._looked_at = time.monotonic()
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=10)

    def hold(self, claim: Claim) -> HeldClaim:
        """Renew this claim until `release`."""
        held = HeldClaim(claim, must_leave=self._must_leave)
        with self._lock:
            self._held[claim.claim_id] = held
        return held

    def release(self, held: HeldClaim) -> None:
        """Renew it no longer: it is finished, handed back, or somebody else's."""
        with self._lock:
            self._held.pop(held.claim.claim_id, None)

    def held(self) -> list[HeldClaim]:
        with self._lock:
            return list(self._held.values())

    def lose(self, prediction_id: str) -> None:
        """A notification said that this prediction is over."""
        for held in self.held():
            if held.claim.prediction_id == prediction_id:
                held.lose()

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
                # The claims stay in hand: whether they are still ours is for the next renewal, or the fence, to say.
                log.warning("leases.disconnected", reason=str(error).strip())
                self._exit_if_stalled()
                self._stopping.wait(0.5)

    def _renew(self, conn: Connection) -> None:
        claims = {held.claim.claim_id: held for held in self.held()}
        still_held = renew(conn, [(held.claim.prediction_id, claim_id) for claim_id, held in claims.items()])
        for claim_id in claims.keys() - still_held:
            with self._lock:
                finished_meanwhile = claim_id not in self._held
            if not finished_meanwhile:
                claims[claim_id].lose()

    def _exit_if_stalled(self) -> None:
        now = time.monotonic()
        if now - self._looked_at > FROZEN_AFTER_S:
            log.warning("worker.was_frozen", for_s=round(now - self._looked_at, 1))
            for held in self.held():
                held.progressed()
        self._looked_at = now
        for held in self.held():
            if held.on_device and held.without_progress_s() > self._stall_s:
                log.error(
                    "worker.stalled",
                    prediction_id=held.claim.prediction_id,
                    attempt=held.claim.attempt,
                    without_progress_s=round(held.without_progress_s(), 1),
                )
                self._on_stall()
                os._exit(EXIT_STALLED)  # the drawing thread hangs in the device: nothing gentler ends it
