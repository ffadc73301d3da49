"""Webhook deliveries: the outbox, its fences, and its bells.

A row is written in the transaction that wrote the state it tells of, with a Procrastinate job that wakes a
courier. The row is the truth: an event is `pending` until it is `delivered`, `failed` (given up) or `dropped`
(a later event made it pointless). Who moves a pending row next: the courier that holds its lock; once the lock
has run out, or where the job was lost, whoever is woken by `ring_overdue`.

The job is only a bell: it wakes a courier, which takes not the delivery of that job but the one whose turn it is
(`claim_next`). So 5,000 jobs of one token before a job of another one hold nothing up.

Delivery is at least once: a courier that dies in mid-POST leaves a lock that runs out, and the next attempt
carries the same webhook-id and the same body.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from ulid import ULID

from storage.outbound.parse_url import InvalidURL, parse_url
from storage.postgres.database import Connection
from storage.postgres.procrastinate import TASK_DELIVER, WEBHOOK_QUEUE

# One call of prune_jobs stays short; what is left over is done at the next turn.
BATCH = 200

# Any bell lets a courier take whatever is due, and go on until nothing is: so a few of them wake all of its threads.
# Deliveries that are due and wait for a slot have no bell, and must not cost a thousand jobs at every turn.
RING_AT_MOST = 50

EVERYBODY = 0  # the `token_id` of deliveries whose prediction belongs to no token

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
    token_id: int
    host: str
    event: str
    url: str
    body: str
    attempts: int  # made so far, each with an outcome
    locked_until: datetime
    is_private: bool  # known from its first attempt on
    sealed_secrets: list[str]  # those that sign it, as they are stored


@dataclass(frozen=True)
class Openings:
    """What a courier has slots for. A lane is a token and a host (`lane_of`)."""

    closed_tokens: list[int] = field(default_factory=list)  # nothing of theirs
    listed_only_tokens: list[int] = field(default_factory=list)  # of theirs only `listed_lanes`
    listed_only: bool = False  # of all tokens
    listed_lanes: list[str] = field(default_factory=list)
    closed_hosts: list[str] = field(default_factory=list)
    closed_lanes: list[str] = field(default_factory=list)
    # Whose turn it is: the token with the fewest POSTs in flight, and of those the one whose last turn is the oldest.
    # Tokens that aren't named here come first.
    tokens: list[int] = field(default_factory=list)
    in_flight: list[int] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)


EVERYTHING_OPEN = Openings()


def lane_of(token_id: int, host: str) -> str:
    """The same in SQL: `token_id || ' ' || host`."""
    return f"{token_id} {host}"


def write_delivery(
    conn: Connection, *, prediction_id: str, event: str, url: str, body: str, drops: Sequence[str] = ()
) -> str:
    """Write an event and its job in the caller's transaction; returns the webhook-id.

    The events in `drops` are dropped if they were not sent yet. `storage.webhooks.events.write_event` calls it; its
    caller holds the lock of the prediction's row, so the events of a prediction are written one after the other.
    """
    if drops:
        _drop_unsent(conn, prediction_id, drops)
    delivery_id = f"msg_{str(ULID()).lower()}"
    conn.execute(
        f"""
        WITH d AS (SELECT %(id)s::text AS id)
        INSERT INTO webhook_deliveries (id, prediction_id, token_id, host, event, url, body, queue_job_id)
        SELECT d.id, %(prediction_id)s,
               coalesce((SELECT token_id FROM predictions WHERE id = %(prediction_id)s), {EVERYBODY}),
               %(host)s, %(event)s, %(url)s, %(body)s, {DEFER.format(at="NULL")}
        FROM d
        """,  # noqa: S608 (constants)
        {
            "id": delivery_id,
            "prediction_id": prediction_id,
            "host": _host_of(url),
            "event": event,
            "url": url,
            "body": body,
        },
    )
    return delivery_id


def _drop_unsent(conn: Connection, prediction_id: str, events: Sequence[str]) -> None:
    dropped = conn.execute(
        """
        UPDATE webhook_deliveries SET status = 'dropped'
        WHERE prediction_id = %s AND event = ANY(%s) AND status = 'pending'
        RETURNING queue_job_id
        """,
        (prediction_id, list(events)),
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


def claim_next(conn: Connection, openings: Openings, *, lock_for: timedelta) -> ClaimedDelivery | None:
    """Take the delivery whose turn it is, of those that are due, in nobody's hands, and that there is a slot for.

    None where there is none. Its bell is removed, since nobody has to be woken for it. One round trip, a function of
    revision 0009.
    """
    row = conn.execute(CLAIM_NEXT, vars(openings) | {"lock_for": lock_for}).fetchone()
    return None if row is None else ClaimedDelivery(**row)


def read_traceparent(conn: Connection, claimed: ClaimedDelivery) -> str | None:
    """The trace of its prediction, if it is traced."""
    row = conn.execute("SELECT traceparent FROM predictions WHERE id = %s", (claimed.prediction_id,)).fetchone()
    return None if row is None else row["traceparent"]


def mark_private(conn: Connection, claimed: ClaimedDelivery) -> bool:
    """Note that its target is private, before anything is sent there. False where the claim was lost."""
    return _changed(
        conn,
        claimed,
        "UPDATE webhook_deliveries SET is_private = true WHERE id = %(id)s AND locked_until = %(locked_until)s",
    )


# The order of its parameters is that of the function.
CLAIM_NEXT = """
SELECT (delivery).id, (delivery).prediction_id, (delivery).token_id, (delivery).host, (delivery).event,
       (delivery).url, (delivery).body, (delivery).attempts, (delivery).locked_until, (delivery).is_private,
       sealed_secrets
FROM darkroom_claim_delivery_v1(
    %(lock_for)s::interval, %(closed_tokens)s::bigint[], %(listed_only_tokens)s::bigint[], %(listed_only)s::boolean,
    %(listed_lanes)s::text[], %(closed_hosts)s::text[], %(closed_lanes)s::text[], %(tokens)s::bigint[],
    %(in_flight)s::integer[], %(turns)s::bigint[])
"""


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
    """Give up. Returns False if the claim was lost."""
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
    """Insert a new job for deliveries that are due, in nobody's hands, and have no job that waits; the oldest first.

    That is how deliveries go on after their courier died, or after a job was lost. RING_AT_MOST are rung at a time. Any
    number of couriers may call it at once: what another one is ringing is skipped. Returns how many rang.
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
        {"overdue_after": OVERDUE_AFTER, "batch": RING_AT_MOST},
    ).rowcount


def prune_jobs(conn: Connection) -> int:
    """Delete jobs of the webhook queue that no courier will use again; returns how many.

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


def _host_of(url: str) -> str:
    try:
        return parse_url(url).host
    except InvalidURL:
        return ""  # the courier gives it up
