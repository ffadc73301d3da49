"""What was learned about a device and a model, kept so that a fresh worker knows it."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from storage.postgres.database import Connection
from storage.predictions.parameters import Parameters

# Measured for Z-Image's real size on an H200: at 1024² a second picture adds 0.96 of a step alone, at 512² 0.72
# (docs/benchmarks-gpu.md). Published for an H800: 0.86 and 0.58.
PAYS = 0.8
# The first steps of a new shape are slow for reasons of their own; one of them must not decide.
ENOUGH_SAMPLES = 4


@dataclass(frozen=True)
class Load:
    """What one forward of the model is asked to do."""

    images: int  # with classifier-free guidance, each counts twice
    pixels: int  # of all of them

    def __add__(self, other: Load) -> Load:
        return Load(self.images + other.images, self.pixels + other.pixels)

    def __sub__(self, other: Load) -> Load:
        return Load(self.images - other.images, self.pixels - other.pixels)


NOTHING = Load(0, 0)


def load_of(parameters: Parameters) -> Load:
    """The load of one request."""
    images = parameters.num_outputs * (2 if parameters.guidance_scale > 0 else 1)
    return Load(images, images * parameters.width * parameters.height)


@dataclass(frozen=True)
class StepCost:
    """One denoising step of `images` images with `pixels` pixels together."""

    images: int
    pixels: int
    seconds: float
    peak_bytes: int | None  # memory in use at most, beyond the weights; None if it isn't counted
    samples: int


def seconds_of(known: Mapping[Load, StepCost], load: Load) -> float | None:
    """A step's time: as observed, or between the observations around it; None beyond the largest one."""
    if load in known:
        return known[load].seconds
    points = _points(known)
    place = bisect_left(points, (load.pixels, 0.0))
    if place == len(points):
        return None
    above = points[place]
    below = points[place - 1] if place else (0, 0.0)
    share = (load.pixels - below[0]) / (above[0] - below[0])
    return below[1] + share * (above[1] - below[1])


def estimate(known: Mapping[Load, StepCost], load: Load) -> float | None:
    """The same, and beyond the largest observation in proportion to it; None where nothing was observed."""
    seconds = seconds_of(known, load)
    if seconds is not None or not known:
        return seconds
    pixels, of_them = _points(known)[-1]
    return of_them * load.pixels / pixels


def pays(known: Mapping[Load, StepCost], load: Load, more: Load) -> bool:
    """Whether `more` in the same step as `load` adds at most PAYS of what it costs alone, or is worth a try."""
    together = seconds_of(known, load + more)
    samples = known[load + more].samples if load + more in known else 0
    if together is None or 0 < samples < ENOUGH_SAMPLES:
        return load in known and _last_one_paid(known, load, more)
    alone, before = estimate(known, more), estimate(known, load)
    assert alone is not None and before is not None  # noqa: PT018 (something larger was observed)
    return together - before <= PAYS * alone


def _last_one_paid(known: Mapping[Load, StepCost], load: Load, more: Load) -> bool:
    """Whether it is worth a try to go one drawing beyond `load`: not where the one before added too much already."""
    fewer, alone = known.get(load - more), estimate(known, more)
    return fewer is None or alone is None or known[load].seconds - fewer.seconds <= PAYS * alone


def _points(known: Mapping[Load, StepCost]) -> list[tuple[int, float]]:
    """(pixels, seconds), rising in pixels; several splits of the same pixels are averaged."""
    by_pixels: dict[int, list[float]] = {}
    for load, cost in known.items():
        by_pixels.setdefault(load.pixels, []).append(cost.seconds)
    return sorted((pixels, sum(seconds) / len(seconds)) for pixels, seconds in by_pixels.items())


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
