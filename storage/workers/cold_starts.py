"""How long workers' cold starts took, phase by phase, added up for Prometheus."""

from __future__ import annotations

from collections.abc import Mapping

from psycopg.types.json import Jsonb

from storage.operator.totals import SECONDS_BOUNDS
from storage.postgres.database import Connection


def record_cold_start(conn: Connection, model: str, seconds: Mapping[str, float]) -> None:
    """Count one start. `seconds`: by the name of the phase."""
    conn.execute(
        """
        INSERT INTO cold_starts AS known (model, phase, seconds, buckets)
        SELECT %(model)s, phase, took::float8,
               (SELECT array_agg((place = darkroom_bucket(took::float8, %(bounds)s))::integer::bigint ORDER BY place)
                FROM generate_series(1, cardinality(%(bounds)s::float8[]) + 1) AS place)
        FROM jsonb_each_text(%(seconds)s) AS phases (phase, took)
        ORDER BY phase
        ON CONFLICT (model, phase) DO UPDATE
        SET seconds = known.seconds + excluded.seconds,
            buckets = (SELECT array_agg(a + b ORDER BY place)
                       FROM unnest(known.buckets, excluded.buckets) WITH ORDINALITY AS both_of (a, b, place))
        """,
        {"model": model, "seconds": Jsonb(dict(seconds)), "bounds": list(SECONDS_BOUNDS)},
    )
