"""How long workers took to start, so that an estimate can count a cold start in."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from storage.postgres.database import Connection


@dataclass(frozen=True)
class LoadTime:
    """Of one model and version on a kind of device."""

    device: str
    boot_seconds: float  # from the start of the process to its row in `workers`
    load_seconds: float  # from there to its being ready
    joins_midway: bool  # what the engine can do: whether drawings join others that have begun


def write_load_time(
    conn: Connection, worker_id: UUID, *, device: str, version: str, since_start_s: float, joins_midway: bool
) -> None:
    """A worker, whose row is there, is ready `since_start_s` after its process began.

    The mean of this time and the one before is kept: a first start reads weights that later ones find in memory.
    """
    conn.execute(
        """
        INSERT INTO load_times AS known (device, model, version, boot_seconds, load_seconds, joins_midway)
        SELECT %(device)s, model, %(version)s, greatest(0, %(since_start)s - loaded.seconds), loaded.seconds,
               %(joins_midway)s
        FROM workers, extract(epoch FROM clock_timestamp() - workers.started_at) AS loaded (seconds)
        WHERE workers.id = %(id)s
        ON CONFLICT (device, model, version) DO UPDATE
        SET boot_seconds = (known.boot_seconds + excluded.boot_seconds) / 2,
            load_seconds = (known.load_seconds + excluded.load_seconds) / 2,
            joins_midway = excluded.joins_midway, updated_at = clock_timestamp()
        """,
        {
            "id": worker_id,
            "device": device,
            "version": version,
            "since_start": since_start_s,
            "joins_midway": joins_midway,
        },
    )
    conn.execute(
        """
        SELECT darkroom_note_activity(
            model, clock_timestamp(),
            jsonb_build_object(darkroom_bucket_key('l', extract(epoch FROM clock_timestamp() - started_at)::float8), 1))
        FROM workers WHERE id = %s
        """,
        (worker_id,),
    )


def read_load_times(conn: Connection, *, model: str, version: str) -> list[LoadTime]:
    """On each kind of device, the one that was measured last first."""
    rows = conn.execute(
        """
        SELECT device, boot_seconds, load_seconds, joins_midway FROM load_times
        WHERE model = %s AND version = %s ORDER BY updated_at DESC
        """,
        (model, version),
    ).fetchall()
    return [LoadTime(**row) for row in rows]
