"""Leases on demand: several hosts see the same waiting predictions, and only one of them starts a worker for each.

A host takes a lease before it starts a worker, renews it while the worker starts, and gives it back when the worker has
signed in (from then on its row in `workers` counts) or has ended. If the host dies, its leases end by themselves.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from uuid import UUID, uuid4

from storage.postgres.database import Connection
from storage.workers.warm import COUNTED, NO_BOUNDS, SILENT_AFTER_S, WorkerBounds, lock_worker_count

# Longer than a Postgres failover that renewals can't get through, and short enough that the work of a host that died
# in mid-start isn't left waiting.
LEASE_S = 15.0


def lease_demand(conn: Connection, model: str, host: UUID, bounds: WorkerBounds = NO_BOUNDS) -> UUID | None:
    """A lease to start one more worker for a model; None if there are enough.

    Enough is one for each prediction that waits or is being drawn, within the bounds. Workers of all hosts count, and
    so do the leases of workers to come. The count is a statement of its own: it has to see what was committed while the
    first one waited for the lock.
    """
    about = {"model": model, "host": host, "id": uuid4(), "lease_s": LEASE_S}
    about |= {"at_least": bounds.at_least, "at_most": bounds.at_most, "silent_s": SILENT_AFTER_S}
    with conn.transaction():
        lock_worker_count(conn, model)
        conn.execute("DELETE FROM demand_leases WHERE model = %s AND expires_at < clock_timestamp()", (model,))
        row = conn.execute(
            f"""
            INSERT INTO demand_leases (id, model, host, expires_at)
            SELECT %(id)s, %(model)s, %(host)s, clock_timestamp() + make_interval(secs => %(lease_s)s)
            WHERE (SELECT count(*) FROM workers WHERE model = %(model)s AND {COUNTED})
                  + (SELECT count(*) FROM demand_leases WHERE model = %(model)s)
                < least(%(at_most)s::float8,
                        greatest(%(at_least)s, (SELECT count(*) FROM predictions
                                                WHERE model = %(model)s AND status IN ('starting', 'processing'))))
            RETURNING id
            """,  # noqa: S608 (constants)
            about,
        ).fetchone()
    return None if row is None else row["id"]


def renew_leases(conn: Connection, leases: Sequence[UUID]) -> None:
    conn.execute(
        "UPDATE demand_leases SET expires_at = clock_timestamp() + make_interval(secs => %s) WHERE id = ANY(%s)",
        (LEASE_S, list(leases)),
    )


def give_back(conn: Connection, leases: Sequence[UUID]) -> None:
    conn.execute("DELETE FROM demand_leases WHERE id = ANY(%s)", (list(leases),))


def workers_elsewhere(conn: Connection, *, host: UUID, hostname: str, pids: Collection[int]) -> dict[str, int]:
    """By model: how many workers there are, or are about to start, besides the processes `pids` of this host."""
    rows = conn.execute(
        f"""
        SELECT model, count(*)::integer AS workers FROM (
            SELECT model FROM workers WHERE {COUNTED} AND NOT (hostname = %(hostname)s AND pid = ANY(%(pids)s))
            UNION ALL
            SELECT model FROM demand_leases WHERE host <> %(host)s AND expires_at > clock_timestamp()
        ) AS others GROUP BY model
        """,  # noqa: S608 (constants)
        {"host": host, "hostname": hostname, "pids": list(pids), "silent_s": SILENT_AFTER_S},
    ).fetchall()
    return {row["model"]: row["workers"] for row in rows}
