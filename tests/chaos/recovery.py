"""From a worker's death to the next claim of what it held; from a promotion to the next picture; begun again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from storage.postgres.database import Connection, Row
from tests.chaos.deployment import SUPERVISED, Death


@dataclass(frozen=True)
class Recovery:
    """One prediction that a dead worker held."""

    seconds: float | None  # until the next claim; None where it ended instead (given up, canceled)
    supervised: bool


def recoveries(conn: Connection, deaths: Sequence[Death]) -> list[Recovery]:
    """Of every claim that was held when its worker died."""
    workers: dict[int, list[Row]] = {}
    for row in conn.execute(
        """
        SELECT w.pid, m.prediction_id, m.at, n.status AS next_status, n.at AS left_at,
               (SELECT min(c.at) FROM chaos_moves AS c
                WHERE c.prediction_id = m.prediction_id AND c.n > m.n AND c.status = 'processing') AS claimed_at
        FROM chaos_moves AS m
        JOIN chaos_workers AS w ON w.id = m.worker_id
        LEFT JOIN LATERAL (
            SELECT status, at FROM chaos_moves AS next
            WHERE next.prediction_id = m.prediction_id AND next.n > m.n ORDER BY next.n LIMIT 1
        ) AS n ON true
        WHERE m.status = 'processing'
        """
    ):
        workers.setdefault(row["pid"], []).append(row)
    found = []
    for death in deaths:
        for claim in workers.get(death.pid, ()):
            if claim["at"].timestamp() > death.at or _before(claim["left_at"], death.at):
                continue
            claimed_at: datetime | None = claim["claimed_at"] if claim["next_status"] == "starting" else None
            seconds = None if claimed_at is None else claimed_at.timestamp() - death.at
            found.append(Recovery(seconds, supervised=death.name in SUPERVISED))
    return found


@dataclass(frozen=True)
class Failover:
    """From the promotion of a standby. None: nothing was sent, or drawn, after it."""

    accepted_s: float | None  # until the next POST was accepted
    picture_s: float | None  # until the next picture was published


def after_promotions(conn: Connection, promotions: Sequence[float], accepted_at: Sequence[float]) -> list[Failover]:
    """Of each promotion."""
    pictures = [row["at"].timestamp() for row in conn.execute("SELECT at FROM chaos_moves WHERE status = 'succeeded'")]
    return [Failover(_next_after(at, accepted_at), _next_after(at, pictures)) for at in promotions]


def drawings_begun_again(conn: Connection) -> int:
    """Claims beyond the first of each prediction."""
    row = conn.execute("SELECT coalesce(sum(attempt - 1), 0)::int AS n FROM predictions WHERE attempt > 0").fetchone()
    assert row is not None
    count: int = row["n"]
    return count


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of them do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(share * 1000) * len(ordered) // 1000) - 1))]


def _next_after(at: float, moments: Sequence[float]) -> float | None:
    return min((moment - at for moment in moments if moment > at), default=None)


def _before(moment: datetime | None, at: float) -> bool:
    return moment is not None and moment.timestamp() <= at
