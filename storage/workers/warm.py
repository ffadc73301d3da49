"""How many workers a model has at least and at most, however many requests wait for it.

At least: the largest of what the catalog says for this hour, of `min_instances` of the model's deployments, and one
while a request keeps it warm. At most: the largest `max_instances` of its deployments; without deployments, no limit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from storage.catalog import Model
from storage.postgres.database import Connection
from storage.postgres.notify import HERE, WARM_CHANNEL


@dataclass(frozen=True)
class WorkerBounds:
    """`at_least` is never more than `at_most`. `warm_until`: by a request, if that is in the future."""

    at_least: int = 0
    at_most: float = math.inf
    warm_until: datetime | None = None


NO_BOUNDS = WorkerBounds()

# A worker of any host that draws or will draw. One that has been silent for so long may be dead (it renews its row
# every 1.5 s), so another may start in its place.
SILENT_AFTER_S = 10.0
COUNTED = """
state NOT IN ('failed', 'draining', 'standby') AND seen_at > clock_timestamp() - make_interval(secs => %(silent_s)s)
"""

READ = """
SELECT model, (SELECT max(min_instances) FROM deployments WHERE deployments.model = asked.model) AS min_instances,
       (SELECT max(max_instances) FROM deployments WHERE deployments.model = asked.model) AS max_instances,
       clock_timestamp() AS now,
       (SELECT until FROM warm_requests WHERE warm_requests.model = asked.model AND until > clock_timestamp()) AS until
FROM unnest(%s::text[]) AS asked (model)
"""


def read_bounds(conn: Connection, models: Iterable[Model], *, now: datetime | None = None) -> dict[str, WorkerBounds]:
    """The bounds of each of these models, by its name. `now`: for the hours of the catalog."""
    by_name = {model.name: model for model in models}
    found = {}
    for row in conn.execute(READ, (list(by_name),)):
        at_least = max(
            by_name[row["model"]].warm.min_workers_at(now or row["now"]),
            row["min_instances"] or 0,
            int(row["until"] is not None),
        )
        if row["max_instances"] is None:
            found[row["model"]] = WorkerBounds(at_least, warm_until=row["until"])
        else:
            found[row["model"]] = WorkerBounds(min(at_least, row["max_instances"]), row["max_instances"], row["until"])
    return found


def keep_warm(conn: Connection, model: str, seconds: float) -> datetime:
    """Have one worker of the model ready for so long, also if nothing waits for it. Returns until when.

    A longer time that an earlier request has asked for stays.
    """
    with conn.transaction():
        row = conn.execute(
            """
            INSERT INTO warm_requests AS known (model, until)
            VALUES (%s, clock_timestamp() + make_interval(secs => %s))
            ON CONFLICT (model) DO UPDATE SET until = greatest(known.until, excluded.until)
            RETURNING until
            """,
            (model, seconds),
        ).fetchone()
        assert row is not None
        notify_bounds_changed(conn, model)
    until: datetime = row["until"]
    return until


def notify_bounds_changed(conn: Connection, model: str) -> None:
    """Have the hosts read the bounds of a model again; sent when the caller's transaction commits."""
    conn.execute(f"SELECT pg_notify(%s || {HERE}, %s)", (WARM_CHANNEL, model))


def lock_worker_count(conn: Connection, model: str) -> None:
    """Until the transaction ends, no other process can decide that a worker of this model starts or leaves."""
    conn.execute("SELECT pg_advisory_xact_lock(hashtextextended('darkroom demand of ' || %s, 0))", (model,))


def leave_if_enough(conn: Connection, model: Model, worker_id: UUID) -> bool:
    """Sign an idle worker out as draining, if there are enough without it. Of several that ask at once, enough stay."""
    with conn.transaction():
        lock_worker_count(conn, model.name)
        at_least = read_bounds(conn, [model])[model.name].at_least
        row = conn.execute(
            f"""
            UPDATE workers SET state = 'draining'
            WHERE id = %(id)s AND (
                SELECT count(*) FROM workers WHERE model = %(model)s AND id <> %(id)s AND {COUNTED}
            ) >= %(at_least)s
            RETURNING id
            """,  # noqa: S608 (constants)
            {"id": worker_id, "model": model.name, "at_least": at_least, "silent_s": SILENT_AFTER_S},
        ).fetchone()
    return row is not None
