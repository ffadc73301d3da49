"""The state of the whole deployment, for operators: what Postgres knows of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta

from storage.operator.activity import MINUTE_S, QUARTER_S, Series, read_series
from storage.operator.totals import read_pending_webhooks, read_queues
from storage.operator.usage import read_usage, today_in_utc
from storage.postgres.database import Connection, Row
from storage.s3.lost_objects import count_missing
from storage.workers.registry import list_workers

HOUR_POINTS = 60  # minutes
DAY_POINTS = 96  # quarters of an hour
USAGE_DAYS = 30
MAX_USAGE_ROWS = 1000

# Of the last day, the latest so many failures are sorted by their reasons.
MAX_FAILURES = 1000
MAX_REASONS = 20
MAX_DELIVERIES = 50

FAILURES = """
SELECT model, coalesce(error, '') AS reason, count(*) AS count, max(completed_at) AS last_at,
       (array_agg(id ORDER BY completed_at DESC))[1] AS prediction_id
FROM (
    SELECT id, model, error, completed_at FROM predictions
    WHERE status = 'failed' AND completed_at > clock_timestamp() - interval '1 day'
    ORDER BY completed_at DESC LIMIT %s
) AS latest
GROUP BY model, error ORDER BY count DESC, last_at DESC LIMIT %s
"""

LOAD_FAILURES = """
SELECT model, count(*) AS tries, max(failed_at) AS last_at, (array_agg(reason ORDER BY failed_at DESC))[1] AS reason
FROM load_failures GROUP BY model
"""

# The index has those whose last attempt failed, also where a later event has replaced them.
FAILING_DELIVERIES = """
SELECT delivery.*, tokens.name AS token
FROM webhook_deliveries AS delivery LEFT JOIN tokens ON tokens.id = delivery.token_id
WHERE last_error IS NOT NULL AND status IN ('pending', 'failed') ORDER BY last_attempt_at DESC LIMIT %s
"""

# Couriers keep a connection for rescue. Only connections of the same database user show their name.
COURIERS = """
SELECT count(*) AS n FROM pg_stat_activity
WHERE datname = current_database() AND application_name = 'darkroom-rescue'
"""

# Reads the end of an index, and of the tombstones at most a thousand.
STORED = """
SELECT pg_database_size(current_database()) AS database_bytes,
       current_setting('server_version') AS postgres_version,
       (SELECT min(completed_at) FROM predictions WHERE NOT data_removed AND NOT keep) AS oldest_data_at,
       (SELECT count(*) FROM (SELECT FROM object_tombstones LIMIT 1000) AS first) AS tombstones,
       (SELECT greatest(0, reltuples)::bigint FROM pg_class WHERE oid = 'predictions'::regclass) AS predictions,
       (SELECT greatest(0, reltuples)::bigint FROM pg_class WHERE oid = 'objects'::regclass) AS objects
"""


@dataclass(frozen=True)
class Status:
    """One reading of everything. Times of series are the database's."""

    queues: list[Row]  # of storage.operator.totals.read_queues
    hour: dict[str, Series]  # by model
    day: dict[str, Series]
    workers: list[Row]  # of storage.workers.registry.list_workers
    load_failures: list[Row]  # model, tries, last_at, reason
    failures: list[Row]  # model, reason, count, last_at, prediction_id (the latest one)
    pending_webhooks: Row  # pending, overdue_s
    failing_deliveries: list[Row]  # rows of webhook_deliveries with the name of the token
    usage_by_token: list[Row]  # of storage.operator.usage.read_usage
    usage_by_day: list[Row]
    usage_from: date
    couriers: int
    stored: Row  # database_bytes, postgres_version, oldest_data_at, tombstones, predictions and objects (estimates)
    objects_missing: int


def read_status(conn: Connection) -> Status:
    """A dozen statements, each of them short with a million predictions (bench/status.py)."""
    today = today_in_utc(conn)
    first = today - timedelta(days=USAGE_DAYS - 1)
    couriers, stored = conn.execute(COURIERS).fetchone(), conn.execute(STORED).fetchone()
    assert couriers is not None
    assert stored is not None
    return Status(
        queues=read_queues(conn),
        hour=read_series(conn, step_s=MINUTE_S, points=HOUR_POINTS),
        day=read_series(conn, step_s=QUARTER_S, points=DAY_POINTS),
        workers=list_workers(conn),
        load_failures=conn.execute(LOAD_FAILURES).fetchall(),
        failures=conn.execute(FAILURES, (MAX_FAILURES, MAX_REASONS)).fetchall(),
        pending_webhooks=read_pending_webhooks(conn),
        failing_deliveries=conn.execute(FAILING_DELIVERIES, (MAX_DELIVERIES,)).fetchall(),
        usage_by_token=read_usage(conn, first=first, last=today, by=["token"], limit=MAX_USAGE_ROWS),
        usage_by_day=read_usage(conn, first=first, last=today, by=["day"], limit=MAX_USAGE_ROWS),
        usage_from=first,
        couriers=couriers["n"],
        stored=stored,
        objects_missing=count_missing(conn),
    )
