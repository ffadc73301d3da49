"""One model's queue as it stands: who waits, who draws, and when what waits will begin by what was measured."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from storage.postgres.database import Connection, Row
from storage.predictions.parameters import Parameters
from storage.predictions.progress import read_progress
from storage.workers.load_times import LoadTime, read_load_times
from storage.workers.queue_forecast import ForecastWorker, Job, seconds_until_starts
from storage.workers.step_costs import Load, StepCost, read_step_costs

# Positions further back are all "more than this many".
LONGEST = 10_000
# The drawing of so many is played through; further back, the same pace is assumed.
FORESEEN = 300
# A worker that loads for longer than usual is about to be ready, as far as anybody knows.
ABOUT_TO_BE_READY_S = 1.0


@dataclass(frozen=True)
class QueueState:
    """What is known about the starts of what waits."""

    waiting: dict[str, int]  # prediction id → place, 0 is next
    starts_in_s: list[float | None]  # of the first places; None: unknown
    drawing: int  # predictions
    ready_workers: int
    loading_workers: int
    failed_workers: int  # could not start, and no worker could since then
    read_at: datetime  # by the database's clock

    @property
    def is_loading(self) -> bool:
        return self.ready_workers == 0 and self.loading_workers > 0

    @property
    def is_stuck(self) -> bool:
        """No worker can start, as far as is known: who waits had better be told no time."""
        return self.ready_workers == 0 and self.loading_workers == 0 and self.failed_workers > 0

    def place_of(self, prediction_id: str) -> int | None:
        """How many stand before it; None where it does not wait. A place beyond LONGEST is LONGEST."""
        place = self.waiting.get(prediction_id)
        return LONGEST if place is None and len(self.waiting) >= LONGEST else place

    def seconds_until_start(self, place: int) -> float | None:
        """None where it rests on something that was never measured here."""
        if place < len(self.starts_in_s):
            return self.starts_in_s[place]
        if not self.starts_in_s or self.starts_in_s[-1] is None or self.starts_in_s[0] is None:
            return None
        first, last = self.starts_in_s[0], self.starts_in_s[-1]
        return last + (place + 1 - len(self.starts_in_s)) * (last - first) / len(self.starts_in_s)


def read_queue_state(conn: Connection, model: str, *, version: str, max_images: int) -> QueueState:
    """A few short reads of what is indexed: the queue, what is drawn, the workers, and what such things take."""
    waiting = conn.execute(
        """
        SELECT id, CASE WHEN place <= %(foreseen)s THEN parameters END AS parameters
        FROM (
            SELECT id, parameters, row_number() OVER (ORDER BY priority DESC, start_tag, created_at, id) AS place
            FROM predictions WHERE model = %(model)s AND status = 'starting'
            ORDER BY priority DESC, start_tag, created_at, id LIMIT %(longest)s
        ) AS queue
        ORDER BY place
        """,
        {"model": model, "longest": LONGEST, "foreseen": FORESEEN},
    ).fetchall()
    workers = conn.execute(
        """
        SELECT id, state, device, extract(epoch FROM clock_timestamp() - started_at)::float AS age_s
        FROM workers WHERE model = %s
        """,
        (model,),
    ).fetchall()
    now = conn.execute("SELECT clock_timestamp() AS now").fetchone()
    assert now is not None
    drawing = conn.execute(
        "SELECT worker_id, parameters, logs FROM predictions WHERE model = %s AND status = 'processing'", (model,)
    ).fetchall()
    measured = _Measured(conn, model, version)
    ready = [worker for worker in workers if worker["state"] in ("idle", "drawing")]
    loading = [worker for worker in workers if worker["state"] == "loading"]
    if not ready and not loading:  # the host wakes one that stands by
        loading = [worker for worker in workers if worker["state"] == "standby"][:1]
    jobs = _jobs(waiting[:FORESEEN])
    forecast = [*_ready(ready, drawing, measured), *_to_come(loading, measured, is_any_ready=bool(ready))]
    return QueueState(
        waiting={row["id"]: place for place, row in enumerate(waiting)},
        starts_in_s=seconds_until_starts(jobs, forecast, max_images=max_images),
        drawing=len(drawing),
        ready_workers=len(ready),
        loading_workers=len(loading),
        failed_workers=sum(worker["state"] == "failed" for worker in workers),
        read_at=now["now"],
    )


def _jobs(waiting: list[Row]) -> list[Job]:
    """Up to the first whose parameters another release has written, which this one can't read."""
    jobs = []
    for row in waiting:
        try:
            jobs.append(Job.of(Parameters.from_json(row["parameters"])))
        except TypeError:
            break
    return jobs


class _Measured:
    """What a model takes on the devices that it ran on; each device is asked for once."""

    def __init__(self, conn: Connection, model: str, version: str) -> None:
        self._conn = conn
        self._model = model
        self._version = version
        self._costs: dict[str, dict[Load, StepCost]] = {}
        self.load_times: list[LoadTime] = read_load_times(conn, model=model, version=version)

    def costs_on(self, device: str) -> dict[Load, StepCost]:
        if device not in self._costs:
            costs = read_step_costs(self._conn, device=device, model=self._model, version=self._version)
            self._costs[device] = {Load(cost.images, cost.pixels): cost for cost in costs}
        return self._costs[device]

    def joins_midway(self, device: str) -> bool:
        return all(known.joins_midway for known in self.load_times if known.device == device)


def _ready(workers: list[Row], drawing: list[Row], measured: _Measured) -> Iterator[ForecastWorker]:
    for worker in workers:
        device = worker["device"] or ""
        batch = []
        for row in drawing:
            if row["worker_id"] == worker["id"]:
                steps_done = (read_progress(row["logs"]) or (0, 0))[0]
                with suppress(TypeError):  # as above
                    batch.append(Job.of(Parameters.from_json(row["parameters"]), steps_done=steps_done))
        yield ForecastWorker(0.0, measured.costs_on(device), measured.joins_midway(device), batch)


def _to_come(workers: list[Row], measured: _Measured, *, is_any_ready: bool) -> Iterator[ForecastWorker]:
    """Those that load, or the one that will be started; as on the device where the model was started last."""
    if not measured.load_times:
        return
    latest = measured.load_times[0]
    costs = measured.costs_on(latest.device)
    for worker in workers:
        left_s = max(ABOUT_TO_BE_READY_S, latest.load_seconds - worker["age_s"])
        yield ForecastWorker(left_s, costs, latest.joins_midway)
    if not workers and not is_any_ready:
        yield ForecastWorker(latest.boot_seconds + latest.load_seconds, costs, latest.joins_midway)
