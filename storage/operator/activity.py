"""What happened lately, by the minute and by the quarter of an hour: counted by triggers (revision 0019).

The counts of a row: `succeeded`, `failed`, `canceled`, `images`, and durations in buckets, of which there are ten for
each power of ten: `q-3` (from submit to the last claim), `d12` (from claim to result), `l7` (loading a model). Rows of
webhooks, whose model is "", count `delivered`, `retried`, `failed`, and the status codes of answers: `code 200`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from storage.postgres.database import Connection

WEBHOOKS = ""  # where a model's name stands in other rows

MINUTE_S, QUARTER_S = 60, 900
# A little more than what is shown.
KEEP = {MINUTE_S: timedelta(hours=2), QUARTER_S: timedelta(days=2)}

Kind = Literal["q", "l", "d"]

Counts = Mapping[str, int]


@dataclass(frozen=True)
class Series:
    """Counts of points in time, `step_s` apart, oldest first; the last one is not over yet."""

    starts_at: datetime
    step_s: int
    points: list[Counts]

    def sum(self) -> Counts:
        """Of all points."""
        return add(self.points)


def read_series(conn: Connection, *, step_s: int, points: int) -> dict[str, Series]:
    """The latest points of each model that anything happened to; of webhooks under WEBHOOKS, always."""
    rows = conn.execute(
        """
        WITH first AS (
            SELECT date_bin(make_interval(secs => %(step)s), clock_timestamp(), 'epoch')
                   - %(back)s * make_interval(secs => %(step)s) AS at
        )
        SELECT first.at AS first_at, model, counts,
               (extract(epoch FROM starts_at - first.at) / %(step)s)::integer AS place
        FROM first LEFT JOIN activity ON span_s = %(step)s AND starts_at >= first.at
        """,
        {"step": step_s, "back": points - 1},
    ).fetchall()
    starts_at: datetime = rows[0]["first_at"]
    found: dict[str, list[Counts]] = {WEBHOOKS: [{} for _ in range(points)]}
    for row in rows:
        if row["model"] is not None and row["place"] < points:
            found.setdefault(row["model"], [{} for _ in range(points)])[row["place"]] = row["counts"]
    return {model: Series(starts_at, step_s, counts) for model, counts in found.items()}


def add(several: Iterable[Counts]) -> dict[str, int]:
    """The sum of counts, name by name."""
    total: dict[str, int] = {}
    for counts in several:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def percentile(counts: Counts, kind: Kind, share: float) -> float | None:
    """The duration in seconds that this share of them (0 to 1) doesn't exceed, or None if there was none.

    Within a bucket, durations are taken to be spread evenly on the logarithmic scale, so it is right to a quarter.
    """
    buckets = sorted(
        (int(name[1:]), count) for name, count in counts.items() if name[0] == kind and name[1:].lstrip("-").isdigit()
    )
    left = share * sum(count for _, count in buckets)
    for bucket, count in buckets:
        if left <= count:
            return float(10 ** ((bucket + left / count) / 10))
        left -= count
    return None


def forget_old_activity(conn: Connection) -> int:
    """Delete rows that no chart shows any more; returns how many."""
    return sum(
        conn.execute(
            "DELETE FROM activity WHERE span_s = %s AND starts_at < clock_timestamp() - %s", (span_s, keep)
        ).rowcount
        for span_s, keep in KEEP.items()
    )
