"""Assigns predictions to a token that were made while the API was open, and so have no token."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta

import psycopg

from storage.postgres.database import Connection

# Predictions in one transaction. A small batch holds few locks, for a short time.
BATCH = 500

# A pass skips predictions that are locked by another process. The next pass starts after this time.
RETRY_AFTER_S = 0.1

# SKIP LOCKED prevents a deadlock: a worker renews all its leases in one statement, and so may wait for these rows while
# this statement waits for its rows. If the token has used the same Idempotency-Key, its own prediction keeps the key.
# Pending deliveries count as the token's when the courier shares its slots among tokens.
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
), deliveries AS (
    UPDATE webhook_deliveries SET token_id = %(token_id)s
    FROM adopted WHERE prediction_id = adopted.id AND status = 'pending'
)
SELECT created_at, id FROM adopted ORDER BY created_at DESC, id DESC
"""


def adopt_predictions(conn: Connection, token_id: int, *, overlap: timedelta) -> Iterator[int]:
    """Assign predictions without a token to this token. Yields the size of each batch after its commit.

    It may run while predictions are drawn and webhooks are sent. If it was interrupted, call it again for the rest.
    The receivers of these webhooks know the deployment's secret. So the token's webhooks are signed with that secret
    too, for at least `overlap`. Deleted predictions are left out.
    """
    row = conn.execute(
        """
        UPDATE tokens SET shared_secret_until = greatest(shared_secret_until, clock_timestamp() + %s) WHERE id = %s
        RETURNING clock_timestamp() AS now
        """,
        (overlap, token_id),
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
        time.sleep(RETRY_AFTER_S)


def _pass(conn: Connection, token_id: int, until: datetime) -> Iterator[int]:
    """Go once through all of them, oldest first. Each batch starts where the last one ended."""
    at, last_id = "epoch", ""
    while True:
        try:
            with conn.transaction():
                rows = conn.execute(
                    ADOPT,
                    {"token_id": token_id, "until": until, "after_at": at, "after_id": last_id, "batch": BATCH},
                ).fetchall()
        except psycopg.errors.UniqueViolation:
            continue  # the token has just used one of the keys; the next try sees that
        if not rows:
            return
        yield len(rows)
        at, last_id = rows[0]["created_at"], rows[0]["id"]
