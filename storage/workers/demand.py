"""How much work waits for each model: what decides how many workers there should be."""

from __future__ import annotations

from dataclasses import dataclass

from storage.postgres.database import Connection


@dataclass(frozen=True)
class Demand:
    """Predictions that nobody draws yet, and those that are being drawn."""

    waiting: int
    processing: int


def waiting_by_model(conn: Connection) -> dict[str, Demand]:
    """The models that have anything to do."""
    rows = conn.execute(
        """
        SELECT model,
               count(*) FILTER (WHERE status = 'starting') AS waiting,
               count(*) FILTER (WHERE status = 'processing') AS processing
        FROM predictions WHERE status IN ('starting', 'processing')
        GROUP BY model
        """
    ).fetchall()
    return {row["model"]: Demand(row["waiting"], row["processing"]) for row in rows}
