"""How much work waits for each model: what decides how many workers there should be."""

from __future__ import annotations

from dataclasses import dataclass

from storage.postgres.database import Connection


@dataclass(frozen=True)
class Demand:
    """How many predictions wait and how many are being drawn. `oldest_wait_s`: the age of the oldest that waits."""

    waiting: int
    processing: int
    oldest_wait_s: float = 0.0


def waiting_by_model(conn: Connection) -> dict[str, Demand]:
    """The models that have anything to do."""
    rows = conn.execute(
        """
        SELECT model,
               count(*) FILTER (WHERE status = 'starting') AS waiting,
               count(*) FILTER (WHERE status = 'processing') AS processing,
               coalesce(extract(epoch FROM clock_timestamp() - min(created_at) FILTER (WHERE status = 'starting')), 0)
                   ::float AS oldest_wait_s
        FROM predictions WHERE status IN ('starting', 'processing')
        GROUP BY model
        """
    ).fetchall()
    return {row["model"]: Demand(row["waiting"], row["processing"], row["oldest_wait_s"]) for row in rows}
