"""Deliver webhooks: claim the one whose turn it is, sign, POST, write the outcome, and look for the next.

Nothing here raises. What goes wrong is noted in the row, or a lock expires and rescue rings again.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psycopg
import structlog
from psycopg_pool import ConnectionPool
from standardwebhooks import Webhook

from courier.schedule import delay_before_next_attempt, retry_after
from courier.slots import NoSlot, Slots, Visit
from storage import crash_points, tracing
from storage.access.sealing import Sealer
from storage.access.signing_keys import open_webhook_secrets
from storage.access.tokens import any_token_was_made
from storage.errors import OperatorError
from storage.outbound.check_url import AllowList, resolve
from storage.outbound.deadline_socket import Interrupted
from storage.outbound.dns_lookup import ForbiddenAddress, Unresolvable
from storage.outbound.parse_url import InvalidURL
from storage.outbound.safe_http import NoAnswer, post
from storage.postgres.clock import DatabaseClock
from storage.postgres.database import Connection
from storage.webhooks import outbox as deliveries
from storage.webhooks.allowed_targets import AllowedTargets
from storage.webhooks.events import DURABLE
from storage.webhooks.outbox import ClaimedDelivery

log = structlog.get_logger(__name__)

# The lock outlives the POST by this much, for waiting for a slot at the address and for writing the outcome.
LOCK_MARGIN_S = 15.0

# Threads of a courier claim one after the other, so that each sees which slots the one before has taken. Where that
# takes so long, the database hangs, and rescue rings again.
CLAIM_PATIENCE_S = 5.0

WRITE_AGAIN_AFTER_S = 1.0

GONE = 410  # the receiver never wants to hear of it again
USER_AGENT = "Darkroom-Webhooks/1"


NOT_MARKED_AGAIN_AFTER = timedelta(seconds=5)


class NotMarked(Exception):
    """The database didn't take the note that the target is private, so nothing was sent."""


@dataclass(frozen=True)
class Attempt:
    """What came of one POST. No `status`: no answer came, and `error` says why."""

    status: int | None = None
    error: str = ""
    retry_after_s: float | None = None
    is_final: bool = False  # no use in trying again

    @property
    def is_delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(frozen=True)
class Deliverer:
    """What deliveries of one courier share. Its threads call `deliver_due`."""

    pool: ConnectionPool[Connection]
    clock: DatabaseClock
    sealer: Sealer
    targets: AllowedTargets
    schedule_s: tuple[float, ...]
    timeout_s: float
    slots: Slots
    stopping: threading.Event = field(default_factory=threading.Event)  # set: start no other POST
    interrupted: threading.Event = field(default_factory=threading.Event)  # set: end POSTs in flight
    claiming: threading.Lock = field(default_factory=threading.Lock)
    waking: threading.Lock = field(default_factory=threading.Lock)

    def deliver_due(self) -> None:
        """Make one attempt of a delivery that is due, whichever's turn it is, and go on until there is none.

        There is none for this thread where all that are due wait for a slot. Whoever holds that slot looks again when
        it gives it back, so no delivery waits for a bell.
        """
        held = self._claim_when_woken()
        while held is not None and self._deliver(*held) and not self.stopping.is_set():
            held = self._claim()

    def _claim_when_woken(self) -> tuple[ClaimedDelivery, Visit, AllowList] | None:
        """Bells wait here for each other, so that those who deliver wait for one of them at most before the next."""
        if not self.waking.acquire(timeout=CLAIM_PATIENCE_S):
            return None
        try:
            return None if self.stopping.is_set() else self._claim()
        finally:
            self.waking.release()

    def _claim(self) -> tuple[ClaimedDelivery, Visit, AllowList] | None:
        if not self.claiming.acquire(timeout=CLAIM_PATIENCE_S):
            return None
        try:
            openings = self.slots.openings()
            if openings is None:
                return None
            with self.pool.connection() as conn:
                claimed = deliveries.claim_next(conn, openings, lock_for=self._lock_for())
                if claimed is None:
                    return None
                allow = self._allowed_now(conn)  # first: where it raises, no slot is held
                return claimed, self.slots.enter(claimed), allow
        except psycopg.Error as error:
            log.warning("no delivery claimed", error=_told(error))
            return None
        finally:
            self.claiming.release()

    def _deliver(self, claimed: ClaimedDelivery, visit: Visit, allow: AllowList) -> bool:
        """False where the next one would meet the same."""
        answered = False
        try:
            secrets = open_webhook_secrets(claimed.sealed_secrets, self.sealer)
            if not secrets:
                raise OperatorError("There is no secret that signs webhooks.")
            attempt = self._traced_attempt(claimed, secrets, visit, allow)
            answered = attempt.status is not None
        except OperatorError as error:
            log.error("webhook not signed", **_about(claimed), error=_told(error))
            self._postpone(claimed, self._lock_for())
            return False
        except NoSlot as full:
            self._postpone(claimed, timedelta(seconds=full.stay_away_s))
            return True
        except NotMarked:
            self._postpone(claimed, NOT_MARKED_AGAIN_AFTER)
            return True
        except Interrupted:
            # Whether it arrived isn't known, so it is sent again, by another courier or after the restart.
            self._postpone(claimed, timedelta(0))
            return False
        finally:
            self.slots.leave(visit, answered=answered)
        lock_ends = visit.started_at + self.timeout_s + LOCK_MARGIN_S
        self._write(claimed, lambda conn: self._record(conn, claimed, attempt), until=lock_ends)
        return True

    def _lock_for(self) -> timedelta:
        return timedelta(seconds=self.timeout_s + LOCK_MARGIN_S)

    def _allowed_now(self, conn: Connection) -> AllowList:
        """Asked again each time: the first token may have been created a moment ago."""
        is_open = self.targets.depend_on_tokens and not any_token_was_made(conn)
        return self.targets.now(is_open=is_open)

    def _traced_attempt(self, claimed: ClaimedDelivery, secrets: list[str], visit: Visit, allow: AllowList) -> Attempt:
        parent = self._traceparent(claimed)
        if parent is None:
            return self._attempt(claimed, secrets, visit, allow)
        # Its URL may contain a secret, so only the host is logged.
        about = {"http.request.method": "POST", "server.address": claimed.host, "darkroom.webhook.event": claimed.event}
        about |= {"darkroom.prediction.id": claimed.prediction_id}
        span = tracing.begin("webhook", parent, kind="client", attributes=about)
        attempt = Attempt(error="interrupted")
        try:
            attempt = self._attempt(claimed, secrets, visit, allow, traceparent=span.traceparent)
        finally:
            answer = {} if attempt.status is None else {"http.response.status_code": attempt.status}
            error = None if attempt.is_delivered else "not delivered"
            span.end({"http.request.resend_count": claimed.attempts} | answer, error=error)
        return attempt

    def _traceparent(self, claimed: ClaimedDelivery) -> str | None:
        if not tracing.is_on():
            return None
        try:
            with self.pool.connection() as conn:
                return deliveries.read_traceparent(conn, claimed)
        except psycopg.Error:  # then this attempt has no span
            return None

    def _attempt(
        self,
        claimed: ClaimedDelivery,
        secrets: list[str],
        visit: Visit,
        allow: AllowList,
        *,
        traceparent: str | None = None,
    ) -> Attempt:
        crash_points.reach("before-post")
        now = self.clock.now()  # receivers refuse what is older or newer than a few minutes
        signatures = [Webhook(secret).sign(claimed.id, now, claimed.body) for secret in secrets]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "webhook-id": claimed.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        if traceparent is not None:
            headers[tracing.HEADER] = traceparent
        deadline = time.monotonic() + self.timeout_s
        try:
            target = resolve(claimed.url, allow, timeout_s=self.timeout_s, owner=claimed.token_id)
            if target.is_private:
                self._mark_private(claimed)
            response = post(
                target,
                claimed.body.encode(),
                headers,
                allow=allow,
                timeout_s=max(0.0, deadline - time.monotonic()),
                interrupted=self.interrupted,
                connected_to=lambda target: self.slots.at_addresses(visit, target),
            )
        except InvalidURL as error:
            return Attempt(error=str(error), is_final=True)
        except ForbiddenAddress as error:
            self._mark_private(claimed)
            return Attempt(error=str(error))
        except (Unresolvable, NoAnswer) as error:
            return Attempt(error=str(error))
        except (Interrupted, NoSlot, NotMarked):
            raise
        except Exception as error:
            # A mistake of ours, perhaps provoked by this receiver. It uses up an attempt, or it would be met
            # again for ever.
            log.exception("webhook attempt broke", **_about(claimed))
            return Attempt(error=f"internal error ({type(error).__name__})")
        return Attempt(
            status=response.status,
            error="" if 200 <= response.status < 300 else f"HTTP {response.status}",
            retry_after_s=retry_after(response.headers, self.clock.now()),
            is_final=response.status == GONE,
        )

    def _mark_private(self, claimed: ClaimedDelivery) -> None:
        """Before anything is sent, so that not even the moment of the change tells how long an attempt took."""
        if claimed.is_private:
            return
        try:
            with self.pool.connection() as conn:
                deliveries.mark_private(conn, claimed)
        except psycopg.Error as error:
            log.warning("delivery not marked as private", **_about(claimed), error=_told(error))
            raise NotMarked from None

    def _write(self, claimed: ClaimedDelivery, change: Callable[[Connection], object], *, until: float | None) -> None:
        """Write what came of a claim; while the database is away, try again as long as the lock lasts.

        `until` is that time.monotonic(), or None where the lock may as well run out.
        """
        while True:
            try:
                with self.pool.connection() as conn:
                    change(conn)
                    return
            except psycopg.Error as error:
                log.warning("delivery's outcome not written", **_about(claimed), error=_told(error))
                if until is None or time.monotonic() + WRITE_AGAIN_AFTER_S > until:
                    return
            if self.interrupted.wait(WRITE_AGAIN_AFTER_S):
                return

    def _record(self, conn: Connection, claimed: ClaimedDelivery, attempt: Attempt) -> None:
        about = _about(claimed) | {"status": attempt.status}
        if attempt.is_delivered:
            assert attempt.status is not None
            kept = deliveries.record_delivered(conn, claimed, status=attempt.status)
            log.info("webhook delivered", **about, lock_lost=not kept)
            return
        schedule_s = self.schedule_s if claimed.event in DURABLE else self.schedule_s[:1]
        delay_s = delay_before_next_attempt(claimed.attempts + 1, schedule_s, retry_after_s=attempt.retry_after_s)
        if attempt.is_final or delay_s is None:
            deliveries.record_failed(conn, claimed, status=attempt.status, error=attempt.error)
            log.warning("webhook given up", **about, error=attempt.error)
        else:
            delay = timedelta(seconds=delay_s)
            deliveries.record_retry(conn, claimed, delay=delay, status=attempt.status, error=attempt.error)
            log.info("webhook to be retried", **about, error=attempt.error, delay_s=round(delay_s, 1))

    def _postpone(self, claimed: ClaimedDelivery, delay: timedelta) -> None:
        self._write(claimed, lambda conn: deliveries.postpone(conn, claimed, delay=delay), until=None)


def _about(claimed: ClaimedDelivery) -> dict[str, Any]:
    """What a log line says of a delivery: never its body, nor its URL, which may hold a secret."""
    return {
        "delivery_id": claimed.id,
        "prediction_id": claimed.prediction_id,
        "event_type": claimed.event,
        "attempt": claimed.attempts + 1,
    }


def _told(error: Exception) -> str:
    return " ".join(str(error).split())
