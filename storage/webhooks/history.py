"""Looking into the outbox, and sending again what lies there."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from storage.postgres.database import Connection, Row
from storage.predictions.render import timestamp
from storage.webhooks import states
from storage.webhooks.outbox import DEFER

# What a delivery may be for a token. `not_delivered` stands for pending and failed where the target is private: how
# often and how fast it failed would tell which ports of the operator's network are open.
STATUSES = (*states.ALL, "not_delivered")
STATUS_FOR_TOKENS = """
CASE WHEN delivery.is_private AND delivery.status IN ('pending', 'failed') THEN 'not_delivered' ELSE delivery.status END
"""


def read_deliveries(
    conn: Connection,
    *,
    limit: int,
    before: str | None = None,
    prediction_id: str | None = None,
    status: str | None = None,
    events: Collection[str] | None = None,
    token_id: int | None = None,
) -> list[Row]:
    """A page, newest first: those older than the delivery `before`. Their ids sort by time.

    With a `token_id`, only those of that token's predictions, and `status` is what `show` tells that token.
    """
    shown_status = "delivery.status" if token_id is None else STATUS_FOR_TOKENS
    return conn.execute(
        f"""
        SELECT delivery.* FROM webhook_deliveries AS delivery
        WHERE (%(before)s::text IS NULL OR delivery.id < %(before)s)
          AND (%(prediction_id)s::text IS NULL OR delivery.prediction_id = %(prediction_id)s)
          AND (%(status)s::text IS NULL OR {shown_status} = %(status)s)
          AND (%(events)s::text[] IS NULL OR delivery.event = ANY(%(events)s))
          AND (%(token_id)s::bigint IS NULL OR EXISTS (
              SELECT FROM predictions
              WHERE predictions.id = delivery.prediction_id AND predictions.token_id = %(token_id)s))
        ORDER BY delivery.id DESC LIMIT %(limit)s
        """,  # noqa: S608 (constants)
        {
            "before": before,
            "prediction_id": prediction_id,
            "status": status,
            "events": None if events is None else list(events),
            "token_id": token_id,
            "limit": limit,
        },
    ).fetchall()


def read_delivery(conn: Connection, delivery_id: str) -> Row | None:
    """One delivery, with the `token_id` of its prediction."""
    return conn.execute(
        """
        SELECT delivery.*, predictions.token_id FROM webhook_deliveries AS delivery
        JOIN predictions ON predictions.id = delivery.prediction_id WHERE delivery.id = %s
        """,
        (delivery_id,),
    ).fetchone()


def replay(conn: Connection, delivery_id: str) -> Row | None:
    """Send it again from the start of its schedule, with the same webhook-id and the same body; returns the row.

    None where there is no such delivery, or where it was dropped: a later event has told more. One that is in a
    courier's hands at this moment stays there, and counts its attempts anew.
    """
    return conn.execute(
        f"""
        UPDATE webhook_deliveries AS d
        SET status = 'pending', attempts = 0, next_attempt_at = clock_timestamp(), delivered_at = NULL,
            locked_until = CASE WHEN d.status = 'pending' AND locked_until > clock_timestamp() THEN locked_until END,
            queue_job_id = {DEFER.format(at="NULL")}
        WHERE d.id = %(id)s AND d.status <> 'dropped'
        RETURNING d.*
        """,  # noqa: S608 (constants)
        {"id": delivery_id},
    ).fetchone()


def show(row: Row, *, to_token: bool) -> dict[str, Any]:
    """A delivery as clients see it; its body is the prediction's own.

    For a private target, a token sees only whether it was delivered. The rest (`darkroom webhooks list` has it) would
    make a port scanner of webhooks: an error or the time that an attempt took tells an open port from a closed one.
    """
    is_hidden = to_token and row["is_private"]
    is_pending = row["status"] == "pending" and not is_hidden
    return {
        "id": row["id"],
        "prediction_id": row["prediction_id"],
        "event": row["event"],
        "url": row["url"],
        "status": "not_delivered" if is_hidden and row["status"] in ("pending", "failed") else row["status"],
        "attempts": None if is_hidden else row["attempts"],
        "created_at": timestamp(row["created_at"]),
        "next_attempt_at": timestamp(row["next_attempt_at"]) if is_pending else None,
        "last_attempt_at": None if is_hidden else timestamp(row["last_attempt_at"]),
        "last_status": None if is_hidden else row["last_status"],
        "last_error": None if is_hidden else row["last_error"],
        "delivered_at": timestamp(row["delivered_at"]),
    }
