"""What the metrics say of the whole deployment, whichever process did it: read from Postgres.

Triggers add to the totals at COMMIT (revision 0004); what waits and what is drawn now is counted here.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.postgres.database import Connection, Row
from storage.s3.lost_objects import count_missing

# The upper bounds of the histograms, in the order of the buckets in the tables; one more bucket is above them.
SECONDS_BOUNDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0)


@dataclass(frozen=True)
class Totals:
    """One reading of everything."""

    models: list[Row]  # rows of model_totals
    queues: list[Row]  # model, waiting, oldest_s, processing; only models that have something to do
    workers: list[Row]  # model, state, n
    webhook_attempts: dict[str, int]  # by outcome
    webhooks_pending: int
    webhooks_overdue_s: float  # since when the oldest delivery has been due
    objects_missing: int  # that the bucket has lost
    cold_starts: list[Row]  # rows of cold_starts


def read_run_counts(conn: Connection) -> dict[str, int]:
    """How many predictions of each model ended with images or with a failure since ever; canceled ones don't count."""
    rows = conn.execute("SELECT model, succeeded + failed AS runs FROM model_totals").fetchall()
    return {row["model"]: row["runs"] for row in rows}


def read_queues(conn: Connection) -> list[Row]:
    """model, waiting, oldest_s (of what waits), processing; only of models that have something to do."""
    return conn.execute(
        """
        SELECT model,
               count(*) FILTER (WHERE status = 'starting') AS waiting,
               count(*) FILTER (WHERE status = 'processing') AS processing,
               coalesce(extract(epoch FROM clock_timestamp() - min(created_at) FILTER (WHERE status = 'starting')),
                        0)::float8 AS oldest_s
        FROM predictions WHERE status IN ('starting', 'processing')
        GROUP BY model
        """
    ).fetchall()


def read_pending_webhooks(conn: Connection) -> Row:
    """pending, and overdue_s: since when the oldest delivery has been due."""
    deliveries = conn.execute(
        """
        SELECT count(*) AS pending,
               coalesce(greatest(0, extract(epoch FROM clock_timestamp() - min(next_attempt_at))), 0)::float8
                   AS overdue_s
        FROM webhook_deliveries WHERE status = 'pending'
        """
    ).fetchone()
    assert deliveries is not None
    return deliveries


def read_totals(conn: Connection) -> Totals:
    """Six short queries; the one that counts what waits reads the whole backlog."""
    deliveries = read_pending_webhooks(conn)
    return Totals(
        models=conn.execute("SELECT * FROM model_totals ORDER BY model").fetchall(),
        queues=read_queues(conn),
        workers=conn.execute("SELECT model, state, count(*) AS n FROM workers GROUP BY model, state").fetchall(),
        webhook_attempts={
            row["outcome"]: row["attempts"] for row in conn.execute("SELECT outcome, attempts FROM webhook_totals")
        },
        webhooks_pending=deliveries["pending"],
        webhooks_overdue_s=deliveries["overdue_s"],
        objects_missing=count_missing(conn),
        cold_starts=conn.execute("SELECT * FROM cold_starts ORDER BY model, phase").fetchall(),
    )
