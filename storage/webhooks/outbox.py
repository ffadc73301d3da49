"""Webhook deliveries: the outbox, its fences, and its bells.

A row is written in the transaction that wrote the state it tells of, with a Procrastinate job that wakes a
courier. The row is the truth: an event is `pending` until it is `delivered`, `failed` (given up) or `dropped`
(a later event made it pointless). Who moves a pending row next: the courier that holds its lock; once the lock
has run out, or where the job was lost, whoever is woken by `ring_overdue`.

Delivery is at least once: a courier that dies in mid-POST leaves a lock that runs out, and the next attempt
carries the same webhook-id and the same body.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from ulid import ULID

from storage.postgres.database import Connection
from storage.postgres.procrastinate import TASK_DELIVER, WEBHOOK_QUEUE

# One call of ring_overdue or prune_jobs stays short; what is left over is done at the next turn.
BATCH = 200

# A job that is due is given this long to be fetched before it is believed to be lost.
OVERDUE_AFTER = timedelta(seconds=2)

# Procrastinate's workers write a heartbeat every 10 s, and none while they drain.
WORKER_GONE_AFTER = timedelta(seconds=60)

# The job that wakes a courier for the delivery `d`, at the time {at} (NULL: at once).
DEFER = f"""
(procrastinate_defer_jobs_v1(ARRAY[ROW(
    '{WEBHOOK_QUEUE}', '{TASK_DELIVER}', 0, NULL, NULL, jsonb_build_object('delivery_id', d.id), {{at}}
)::procrastinate_job_to_defer_v1]))[1]
"""


@dataclass(frozen=True)
class ClaimedDelivery:
    """A delivery in this courier's hands until `locked_until`, which is also the fence of what it writes."""

    id: str
    prediction_id: str
    event: str
    url: str
    body: str
    attempts: int  # made so far, each with an outcome
    locked_until: datetime

    @property
    def is_durable(self) -> bool:
        """Only the last word is worth days of retries; the other events are old news by then."""
        return self.event == "completed"


def write_delivery(conn: Connection, *, prediction_id: str, event: str, url: str, body: str) -> str:
    """Write an event and its job in the caller's transaction; returns the webhook-id.

    `completed` drops the earlier events of the prediction that were not sent yet. The caller holds the lock of
    the prediction's row, so its events are written one after the other.
    """
    if event == "completed":
        _drop_unsent(conn, prediction_id)
    delivery_id = f"msg_{str(ULID()).lower()}"
    conn.execute(
        f"""
        WITH d AS (SELECT %(id)s::text AS id)
        INSERT INTO webhook_deliveries (id, prediction_id, event, url, body, queue_job_id)
        SELECT d.id, %(prediction_id)s, %(event)s, %(url)s, %(body)s, {DEFER.format(at="NULL")} FROM d
        """,  # noqa: S608 (constants)
        {"id": delivery_id, "prediction_id": prediction_id, "event": event, "url": url, "body": body},
    )
    return delivery_id


def _drop_unsent(conn: Connection, prediction_id: str) -> None:
    dropped = conn.execute(
        """
        UPDATE webhook_deliveries SET status = 'dropped'
        WHERE prediction_id = %s AND event <> 'completed' AND status = 'pending'
        RETURNING queue_job_id
        """,
        (prediction_id,),
    ).fetchall()
    if dropped:
        conn.execute(
            """
            DELETE FROM procrastinate_jobs WHERE id IN (
                SELECT id FROM procrastinate_jobs WHERE id = ANY(%s) AND status = 'todo' FOR UPDATE SKIP LOCKED
            )
            """,
            ([row["queue_job_id"] for row in dropped],),
        )


def claim_delivery(conn: Connection, delivery_id: str, *, lock_for: timedelta) -> ClaimedDelivery | None:
    """Take a delivery that is due and in nobody's hands. None otherwise: that job has nothing to do."""
    row = conn.execute(
        """
        UPDATE webhook_deliveries SET locked_until = clock_timestamp() + %(lock_for)s
        WHERE id = %(id)s AND status = 'pending' AND next_attempt_at <= clock_timestamp()
          AND (locked_until IS NULL OR locked_until < clock_timestamp())
        RETURNING id, prediction_id, event, url, body, attempts, locked_until
        """,
        {"id": delivery_id, "lock_for": lock_for},
    ).fetchone()
    return None if row is None else ClaimedDelivery(**row)


def record_delivered(conn: Connection, claimed: ClaimedDelivery, *, status: int) -> bool:
    """The receiver took it. Also where it was dropped meanwhile; False where the claim was lost."""
    return _changed(
        conn,
        claimed,
        """
        UPDATE webhook_deliveries
        SET status = 'delivered', delivered_at = clock_timestamp(), locked_until = NULL, queue_job_id = NULL,
            attempts = attempts + 1, last_attempt_at = clock_timestamp(), last_status = %(status)s,
            last_error = NULL
        WHERE id = %(id)s AND locked_until = %(locked_until)s AND status IN ('pending', 'dropped')
        """,
        status=status,
    )


def record_failed(conn: Connection, claimed: ClaimedDelivery, *, status: int | None, error: str) -> bool:
    """Given up for good. False where the claim was lost."""
    return _changed(
        conn,
        claimed,
        """
        UPDATE webhook_deliveries
        SET status = 'failed', locked_until = NULL, queue_job_id = NULL,
            attempts = attempts + 1, last_attempt_at = clock_timestamp(), last_status = %(status)s,
            last_error = %(error)s
        WHERE id = %(id)s AND locked_until = %(locked_until)s AND status = 'pending'
        """,
        status=status,
        error=error,
    )


def record_retry(
    conn: Connection, claimed: ClaimedDelivery, *, delay: timedelta, status: int | None, error: str
) -> bool:
    """This attempt failed; the next one is due after `delay`. False where the claim was lost."""
    return _changed(
        conn,
        claimed,
        f"""
        WITH due AS (SELECT clock_timestamp() + %(delay)s AS at)
        UPDATE webhook_deliveries AS d
        SET next_attempt_at = due.at, locked_until = NULL, queue_job_id = {DEFER.format(at="due.at")},
            attempts = attempts + 1, last_attempt_at = clock_timestamp(), last_status = %(status)s,
            last_error = %(error)s
        FROM due
        WHERE d.id = %(id)s AND d.locked_until = %(locked_until)s AND d.status = 'pending'
        """,  # noqa: S608 (constants)
        delay=delay,
        status=status,
        error=error,
    )


def postpone(conn: Connection, claimed: ClaimedDelivery, *, delay: timedelta) -> bool:
    """Give it back without an attempt having been made of it; due after `delay`."""
    return _changed(
        conn,
        claimed,
        f"""
        WITH due AS (SELECT clock_timestamp() + %(delay)s AS at)
        UPDATE webhook_deliveries AS d
        SET next_attempt_at = due.at, locked_until = NULL, queue_job_id = {DEFER.format(at="due.at")}
        FROM due
        WHERE d.id = %(id)s AND d.locked_until = %(locked_until)s AND d.status = 'pending'
        """,  # noqa: S608 (constants)
        delay=delay,
    )


def ring_overdue(conn: Connection) -> int:
    """Insert a new job for deliveries that are due, in nobody's hands, and have no job that waits.

    That is how a delivery goes on after its courier died, or after its job was lost. Any number of couriers may
    call it at once: what another one is ringing is skipped. Returns how many rang.
    """
    return conn.execute(
        f"""
        WITH overdue AS (
            SELECT id FROM webhook_deliveries
            WHERE status = 'pending' AND next_attempt_at < clock_timestamp() - %(overdue_after)s
              AND (locked_until IS NULL OR locked_until < clock_timestamp())
              AND NOT EXISTS (
                  SELECT FROM procrastinate_jobs AS job
                  WHERE job.id = webhook_deliveries.queue_job_id AND job.status = 'todo'
              )
            ORDER BY next_attempt_at LIMIT %(batch)s
            FOR UPDATE SKIP LOCKED
        )
        UPDATE webhook_deliveries AS d SET queue_job_id = {DEFER.format(at="NULL")}
        FROM overdue WHERE d.id = overdue.id
        """,  # noqa: S608 (constants)
        {"overdue_after": OVERDUE_AFTER, "batch": BATCH},
    ).rowcount


def prune_jobs(conn: Connection) -> int:
    """Delete jobs of the webhook queue that nobody will touch again; returns how many.

    Those that ended in an error (the delivery's row says what comes next), and those of workers that are gone.
    """
    return conn.execute(
        """
        DELETE FROM procrastinate_jobs WHERE id IN (
            SELECT job.id FROM procrastinate_jobs AS job
            LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
            WHERE job.queue_name = %(queue)s
              AND (job.status NOT IN ('todo', 'doing')
                   OR job.status = 'doing' AND (
                       worker.id IS NULL OR worker.last_heartbeat < clock_timestamp() - %(gone_after)s))
            LIMIT %(batch)s
            FOR UPDATE OF job SKIP LOCKED
        )
        """,
        {"queue": WEBHOOK_QUEUE, "gone_after": WORKER_GONE_AFTER, "batch": BATCH},
    ).rowcount


def _changed(conn: Connection, claimed: ClaimedDelivery, statement: str, **values: object) -> bool:
    parameters = {"id": claimed.id, "locked_until": claimed.locked_until} | values
    return conn.execute(statement, parameters).rowcount == 1
