"""Deliver one webhook: claim its row, sign, POST, write the outcome.

Nothing here raises: whatever goes wrong is in the row, or in a lock that runs out, and rescue rings again.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import structlog
from psycopg_pool import ConnectionPool
from standardwebhooks import Webhook

from courier.deadline_socket import Interrupted
from courier.host_slots import HostSlots, NoPlace
from courier.safe_http import NoAnswer, post
from courier.schedule import delay_before_next_attempt, retry_after
from storage import crash_points
from storage.access.sealing import Sealer
from storage.access.signing import active_webhook_secrets
from storage.postgres.database import Connection
from storage.webhooks import outbox as deliveries
from storage.webhooks.addresses import AllowList, ForbiddenAddress, InvalidURL, Unresolvable
from storage.webhooks.outbox import ClaimedDelivery
from storage.webhooks.url import parse_url

log = structlog.get_logger(__name__)

# The lock outlives the POST by this much, for waiting for a place at the host and for writing the outcome.
LOCK_MARGIN_S = 15.0

WRITE_AGAIN_AFTER_S = 1.0

GONE = 410  # the receiver never wants to hear of it again
USER_AGENT = "Darkroom-Webhooks/1"


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
    """What deliveries of one courier share. Its threads call `deliver`."""

    pool: ConnectionPool[Connection]
    sealer: Sealer
    allow: AllowList
    schedule_s: tuple[float, ...]
    timeout_s: float
    interrupted: threading.Event = field(default_factory=threading.Event)  # set: end POSTs in flight
    slots: HostSlots = field(default_factory=HostSlots)

    def deliver(self, delivery_id: str) -> None:
        """Make one attempt of a delivery, if it is due and in nobody's hands."""
        claimed_at = time.monotonic()
        lock_for = timedelta(seconds=self.timeout_s + LOCK_MARGIN_S)
        try:
            with self.pool.connection() as conn, conn.transaction():
                claimed = deliveries.claim_delivery(conn, delivery_id, lock_for=lock_for)
                secrets = active_webhook_secrets(conn, self.sealer) if claimed else []
        except psycopg.Error as error:
            log.warning("delivery not claimed", delivery_id=delivery_id, error=_told(error))
            return
        if claimed is None:
            return
        try:
            with self.slots.place(_host_of(claimed.url)):
                attempt = self._attempt(claimed, secrets)
        except NoPlace as full:
            self._postpone(claimed, timedelta(seconds=full.stay_away_s))
        except Interrupted:
            # Whether it arrived isn't known, so it is sent again, by another courier or after the restart.
            self._postpone(claimed, timedelta(0))
        else:
            lock_ends = claimed_at + lock_for.total_seconds()
            self._write(claimed, lambda conn: self._record(conn, claimed, attempt), until=lock_ends)

    def _attempt(self, claimed: ClaimedDelivery, secrets: list[str]) -> Attempt:
        crash_points.reach("before-post")
        now = datetime.now(UTC)  # standardwebhooks signs aware UTC datetimes only
        signatures = [Webhook(secret).sign(claimed.id, now, claimed.body) for secret in secrets]
        headers = {
            "Content-Type": "application/json",
            "User-Agent": USER_AGENT,
            "webhook-id": claimed.id,
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": " ".join(signatures),
        }
        try:
            response = post(
                claimed.url,
                claimed.body.encode(),
                headers,
                allow=self.allow,
                timeout_s=self.timeout_s,
                interrupted=self.interrupted,
            )
        except InvalidURL as error:
            return Attempt(error=str(error), is_final=True)
        except (ForbiddenAddress, Unresolvable, NoAnswer) as error:
            return Attempt(error=str(error))
        except Interrupted:
            raise
        except Exception as error:
            # A mistake of ours, perhaps provoked by this receiver. It uses up an attempt, or it would be met
            # again for ever.
            log.exception("webhook attempt broke", **_about(claimed))
            return Attempt(error=f"internal error ({type(error).__name__})")
        return Attempt(
            status=response.status,
            error="" if 200 <= response.status < 300 else f"HTTP {response.status}",
            retry_after_s=retry_after(response.headers, datetime.now(UTC)),
            is_final=response.status == GONE,
        )

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
        schedule_s = self.schedule_s if claimed.is_durable else self.schedule_s[:1]
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


def _host_of(url: str) -> str:
    try:
        return parse_url(url).host
    except InvalidURL:
        return ""


def _told(error: Exception) -> str:
    return " ".join(str(error).split())
