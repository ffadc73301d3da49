"""Giving a token the predictions that were made while the API was open, which belong to nobody."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg

from storage.postgres.database import Connection

# Of one transaction, so that it holds few locks, and those shortly.
BATCH = 500

# After a pass that left out predictions which somebody else was writing at that moment.
AGAIN_AFTER_S = 0.1

# SKIP LOCKED: a worker renews all its leases in one statement, and two that wait for each other's rows would deadlock.
# An Idempotency-Key that the token has used itself stays with its own prediction. Deliveries that are still to be sent
# take turns with the token's others from now on.
ADOPT = """
WITH unowned AS (
    SELECT id, idempotency_key FROM predictions
    WHERE token_id IS NULL AND deleted_at IS NULL AND created_at <= %(until)s
      AND (created_at, id) > (%(after_at)s, %(after_id)s)
    ORDER BY created_at, id LIMIT %(batch)s FOR UPDATE SKIP LOCKED
), keyed AS (
    SELECT id, EXISTS (
        SELECT FROM predictions AS own
        WHERE own.token_id = %(token_id)s AND own.idempotency_key = unowned.idempotency_key
    ) AS is_taken FROM unowned
), adopted AS (
    UPDATE predictions SET
        token_id = %(token_id)s,
        idempotency_key = CASE WHEN is_taken THEN NULL ELSE idempotency_key END,
        request_hash = CASE WHEN is_taken THEN NULL ELSE request_hash END
    FROM keyed WHERE predictions.id = keyed.id
    RETURNING predictions.id, predictions.created_at
), in_turn AS (
    UPDATE webhook_deliveries SET token_id = %(token_id)s
    FROM adopted WHERE prediction_id = adopted.id AND status = 'pending'
)
SELECT created_at, id FROM adopted ORDER BY created_at DESC, id DESC
"""


def adopt_predictions(conn: Connection, token_id: int, *, both_sign_for: timedelta) -> Iterator[int]:
    """Make predictions that belong to nobody the token's; yields the size of each batch once it is committed.

    It may run while predictions are drawn and their webhooks are sent, and goes on with what is left when it is called
    again. The receivers of these webhooks know the deployment's secret, so that one signs the token's webhooks beside
    its own for at least `both_sign_for`. Deleted predictions are left out.
    """
    row = conn.execute(
        """
        UPDATE tokens SET shared_secret_until = greatest(shared_secret_until, clock_timestamp() + %s) WHERE id = %s
        RETURNING clock_timestamp() AS now
        """,
        (both_sign_for, token_id),
    ).fetchone()
    assert row is not None
    until: datetime = row["now"]
    conn.execute("UPDATE files SET token_id = %s WHERE token_id IS NULL AND created_at <= %s", (token_id, until))
    while True:
        yield from _pass(conn, token_id, until)
        left = conn.execute(
            "SELECT FROM predictions WHERE token_id IS NULL AND deleted_at IS NULL AND created_at <= %s LIMIT 1",
            (until,),
        )
        if not left.rowcount:
            return
        time.sleep(AGAIN_AFTER_S)


def _pass(conn: Connection, token_id: int, until: datetime) -> Iterator[int]:
    """Once through all of them, oldest first; so that no batch walks through what earlier ones have adopted."""
    at, last_id = "epoch", ""
    while True:
        try:
            with conn.transaction():
                rows = conn.execute(
                    ADOPT,
                    {"token_id": token_id, "until": until, "after_at": at, "after_id": last_id, "batch": BATCH},
                ).fetchall()
        except psycopg.errors.UniqueViolation:
            continue  # the token has used one of the keys meanwhile: now that is seen
        if not rows:
            return
        yield len(rows)
        at, last_id = rows[0]["created_at"], rows[0]["id"]
