"""What each token has used of each model on each day: kept by triggers (revision 0019), read for accounts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Literal, get_args

from storage.postgres.database import Connection, Row

# What the sums are grouped by.
Key = Literal["day", "token", "model"]
KEYS: tuple[Key, ...] = get_args(Key)

FIELDS = ("predictions", "succeeded", "failed", "canceled", "images", "steps", "gpu_seconds")


def read_usage(
    conn: Connection, *, first: date, last: date, by: Sequence[Key], token_id: int | None = None, limit: int
) -> list[Row]:
    """Sums of what ended from `first` to `last` (both included, UTC), one row for each combination of the keys `by`.

    Each row has the keys, and FIELDS: predictions (the sum of the three after it), images, steps (of each image),
    gpu_seconds. `token` is its name, or None for predictions that belong to none. With a `token_id`, only what is that
    token's. At most `limit` rows, in the order of the keys.
    """
    keys = ", ".join("tokens.name AS token" if key == "token" else key for key in by)
    places = ", ".join(str(place) for place in range(1, len(by) + 1))
    return conn.execute(
        f"""
        SELECT {keys}, sum(succeeded + failed + canceled)::bigint AS predictions,
               sum(succeeded)::bigint AS succeeded, sum(failed)::bigint AS failed, sum(canceled)::bigint AS canceled,
               sum(images)::bigint AS images, sum(steps)::bigint AS steps, sum(gpu_seconds) AS gpu_seconds
        FROM usage_totals LEFT JOIN tokens ON tokens.id = usage_totals.token_id
        WHERE day BETWEEN %(first)s AND %(last)s
          AND (%(token_id)s::bigint IS NULL OR usage_totals.token_id = %(token_id)s)
        GROUP BY {places} ORDER BY {places} LIMIT %(limit)s
        """,  # noqa: S608 (constants)
        {"first": first, "last": last, "token_id": token_id, "limit": limit},
    ).fetchall()


def today_in_utc(conn: Connection) -> date:
    """By the database's clock, as the days of the sums are."""
    row = conn.execute("SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date AS today").fetchone()
    assert row is not None
    today: date = row["today"]
    return today


def record_work(conn: Connection, prediction_id: str, *, steps: int, gpu_seconds: float) -> None:
    """Add what was drawn for a prediction and thrown away: it was canceled, handed back, or claimed by another."""
    conn.execute(
        """
        INSERT INTO usage_totals AS known (day, token_id, model, steps, gpu_seconds)
        SELECT (clock_timestamp() AT TIME ZONE 'UTC')::date, coalesce(token_id, 0), model, %(steps)s, %(gpu_seconds)s
        FROM predictions WHERE id = %(id)s
        ON CONFLICT (day, token_id, model) DO UPDATE
        SET steps = known.steps + excluded.steps, gpu_seconds = known.gpu_seconds + excluded.gpu_seconds
        """,
        {"id": prediction_id, "steps": steps, "gpu_seconds": gpu_seconds},
    )
