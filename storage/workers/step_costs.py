"""What was learned about a device and a model, kept so that a fresh worker knows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from storage.postgres.database import Connection


@dataclass(frozen=True)
class StepCost:
    """One denoising step of `images` images with `pixels` pixels together."""

    images: int
    pixels: int
    seconds: float
    peak_bytes: int | None  # memory in use at most, beyond the weights; None where nobody counts
    samples: int


def read_step_costs(conn: Connection, *, device: str, model: str, version: str) -> list[StepCost]:
    """All that is known about this model on this kind of device."""
    rows = conn.execute(
        """
        SELECT images, pixels, seconds, peak_bytes, samples FROM step_costs
        WHERE device = %s AND model = %s AND version = %s
        """,
        (device, model, version),
    ).fetchall()
    return [StepCost(**row) for row in rows]


def write_step_costs(conn: Connection, costs: Iterable[StepCost], *, device: str, model: str, version: str) -> None:
    """Keep what was learned; of two workers with the same kind of device, the later one's word stands."""
    with conn.transaction(), conn.cursor() as cursor:
        cursor.executemany(
            """
            INSERT INTO step_costs (device, model, version, images, pixels, seconds, peak_bytes, samples)
            VALUES (%(device)s, %(model)s, %(version)s, %(images)s, %(pixels)s, %(seconds)s, %(peak_bytes)s,
                    %(samples)s)
            ON CONFLICT (device, model, version, images, pixels) DO UPDATE
            SET seconds = excluded.seconds, peak_bytes = excluded.peak_bytes, samples = excluded.samples,
                updated_at = clock_timestamp()
            """,
            # In one order for everybody, so that two workers can't wait for each other's rows.
            [
                vars(cost) | {"device": device, "model": model, "version": version}
                for cost in sorted(costs, key=lambda cost: (cost.images, cost.pixels))
            ],
        )
