"""One model's queue as it stands: who waits, who draws, and how long such things took lately."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from storage.postgres.database import Connection

# Of a model that was never loaded here: about what a worker takes to import its libraries and read its weights.
ASSUMED_LOAD_S = 30.0
ASSUMED_DRAW_S = 5.0
# Positions further back are all "more than this many".
LONGEST = 10_000


@dataclass(frozen=True)
class QueueState:
    """What an estimate of the start rests on."""

    waiting: dict[str, int]  # prediction id → place, 0 is next
    drawing: int  # predictions
    ready_workers: int
    loading_for_s: float | None  # of the worker that has loaded longest
    failed_workers: int  # could not start, and nobody could since
    draw_s: float  # the median of the latest
    load_s: float
    read_at: datetime

    @property
    def is_loading(self) -> bool:
        return self.ready_workers == 0 and self.loading_for_s is not None

    @property
    def is_stuck(self) -> bool:
        """No worker can start, as far as is known: who waits had better be told no time."""
        return self.ready_workers == 0 and self.loading_for_s is None and self.failed_workers > 0

    def place_of(self, prediction_id: str) -> int | None:
        """How many stand before it; None where it does not wait. A place beyond LONGEST is LONGEST."""
        place = self.waiting.get(prediction_id)
        return LONGEST if place is None and len(self.waiting) >= LONGEST else place

    def seconds_until_start(self, place: int) -> float:
        """A cold start where no worker is ready, and the turns of those before, shared by the workers."""
        cold_s = 0.0
        if self.ready_workers == 0:
            cold_s = max(1.0, self.load_s - (self.loading_for_s or 0.0))
        busy = min(self.drawing, self.ready_workers)
        # Those that are drawn are half done, on average.
        return cold_s + (place + busy / 2) * self.draw_s / max(1, self.ready_workers)


def read_queue_state(conn: Connection, model: str) -> QueueState:
    """Three short reads of what is indexed: the queue, the workers, and the latest results."""
    waiting = conn.execute(
        """
        SELECT id FROM predictions WHERE model = %s AND status = 'starting'
        ORDER BY priority DESC, created_at, id LIMIT %s
        """,
        (model, LONGEST),
    ).fetchall()
    workers = conn.execute(
        """
        SELECT count(*) FILTER (WHERE state IN ('idle', 'drawing')) AS ready,
               count(*) FILTER (WHERE state = 'failed') AS failed,
               extract(epoch FROM clock_timestamp() - min(started_at) FILTER (WHERE state = 'loading')) AS loading_for,
               (SELECT count(*) FROM predictions WHERE model = %(model)s AND status = 'processing') AS drawing
        FROM workers WHERE model = %(model)s
        """,
        {"model": model},
    ).fetchone()
    lately = conn.execute(
        """
        SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY (metrics->>'predict_time')::float) AS draw_s,
               percentile_cont(0.5) WITHIN GROUP (ORDER BY (metrics->>'load_time')::float)
                   FILTER (WHERE (metrics->>'load_time')::float > 0) AS load_s
        FROM (SELECT model, status, metrics FROM predictions ORDER BY created_at DESC LIMIT 200) AS latest
        WHERE model = %s AND status = 'succeeded' AND NOT metrics ? 'cached'
        """,
        (model,),
    ).fetchone()
    assert workers is not None
    assert lately is not None
    return QueueState(
        waiting={row["id"]: place for place, row in enumerate(waiting)},
        drawing=workers["drawing"],
        ready_workers=workers["ready"],
        loading_for_s=None if workers["loading_for"] is None else float(workers["loading_for"]),
        failed_workers=workers["failed"],
        draw_s=ASSUMED_DRAW_S if lately["draw_s"] is None else lately["draw_s"],
        load_s=ASSUMED_LOAD_S if lately["load_s"] is None else lately["load_s"],
        read_at=datetime.now(UTC),
    )
