"""The live events of a prediction: queued, loading, progress, preview, output, done."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

from api.live.access_watch import Access
from api.live.queue_position import QueuePositions, Waiting
from api.live.watch import Quiet, Snapshot, watch
from api.services import Services
from storage.formats import WEBP
from storage.postgres.database import Row
from storage.postgres.feed import Preview, Step
from storage.predictions.progress import read_progress
from storage.predictions.states import PredictionStatus

# While a prediction waits, its position is sent again when it has changed, at most this often.
QUEUE_TICK_S = 2.0
# Further back in the queue it is sent less often: otherwise each end would be an event for thousands of others.
QUEUE_TICK_PER_PLACE_S = 0.02
QUEUE_TICK_AT_MOST_S = 60.0
DONE_ID = "done"  # who reconnects with it has heard everything

Name = Literal["queued", "loading", "progress", "preview", "output", "done"]


@dataclass(frozen=True)
class LiveEvent:
    """One event; `data` becomes JSON. `id` is the same for the same state, on every API process."""

    name: Name
    id: str
    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"event": self.name, "id": self.id, "data": self.data}


def live(
    here: Services, positions: QueuePositions, prediction_id: str, access: Access | None, *, tick_s: float
) -> Iterator[LiveEvent | None]:
    """The present state, then every change of it, until the prediction is over; None where nothing came for a while.

    No history is kept: a client that reconnects gets the state at that time. Raises AccessEnded as `watch` does.
    """
    story = _Story(here, positions)

    def tick() -> float:
        return min(tick_s, story.tell_again_after_s) if story.is_waiting else tick_s

    for seen in watch(here, prediction_id, access, tick_s=tick):
        told = False
        for event in story.tell(seen):
            told = True
            yield event
        del seen
        if not told:
            yield None


def progress_data(step: int, steps: int) -> dict[str, Any]:
    """The data of the event `progress`."""
    return {"status": PredictionStatus.PROCESSING.value, "step": step, "steps": steps}


def preview_data(preview: Preview) -> dict[str, Any]:
    """The data of the event `preview`: the picture as a data: URL."""
    return {"image": f"data:{WEBP.content_type};base64,{preview.webp_base64}"}


class _Story:
    """What was sent to one listener, so that no event is sent twice and progress never goes back."""

    def __init__(self, here: Services, positions: QueuePositions) -> None:
        self._here = here
        self._positions = positions
        self._latest: Row | None = None  # of which only what is used again is kept: a stream may last for hours
        self._waiting: Waiting | None = None  # as it was told last
        self._told_at = -QUEUE_TICK_AT_MOST_S  # of time.monotonic()
        self._reached = (0, -1)  # attempt and step
        self._old_logs = 0  # characters of the logs that earlier attempts wrote

    @property
    def is_waiting(self) -> bool:
        return self._latest is not None and self._latest["status"] == PredictionStatus.STARTING

    @property
    def tell_again_after_s(self) -> float:
        place = 0 if self._waiting is None else self._waiting.position
        return min(QUEUE_TICK_AT_MOST_S, max(QUEUE_TICK_S, place * QUEUE_TICK_PER_PLACE_S))

    def tell(self, seen: Snapshot | Step | Preview | Quiet) -> Iterator[LiveEvent]:
        if isinstance(seen, Snapshot):
            self._latest = {name: seen.row[name] for name in ("id", "model", "status")}
        latest = self._latest
        if latest is None:
            return
        if isinstance(seen, Step):
            yield from self._tell_progress(seen.step, seen.steps)
        elif isinstance(seen, Preview):
            yield LiveEvent("preview", self._id(), preview_data(seen))
        elif self.is_waiting:
            if isinstance(seen, Snapshot) or time.monotonic() - self._told_at >= self.tell_again_after_s:
                yield from self._tell_waiting(latest)
        elif isinstance(seen, Snapshot):
            yield from self._tell_end(seen) if seen.is_over else self._tell_drawing(seen)

    def _id(self) -> str:
        attempt, step = self._reached
        return f"{attempt}.{max(step, 0)}"

    def _tell_waiting(self, latest: Row) -> Iterator[LiveEvent]:
        self._told_at = time.monotonic()
        waiting = self._positions.of(latest)
        # None: it was claimed meanwhile, which is told when the row is read.
        if waiting is not None and waiting.differs_from(self._waiting):
            self._waiting = waiting
            yield LiveEvent(waiting.event, self._id(), waiting.to_json())

    def _tell_drawing(self, latest: Snapshot) -> Iterator[LiveEvent]:
        attempt, logs = latest.row["attempt"], latest.row["logs"]
        self._waiting = None
        if attempt != self._reached[0]:
            # The logs go on from attempt to attempt: what is there already is not this one's progress.
            self._old_logs = len(logs) if attempt > 1 else 0
            self._reached = (attempt, -1)
        steps = latest.row["parameters"].get("num_inference_steps", 1)
        yield from self._tell_progress(*(read_progress(logs[self._old_logs :]) or (0, steps)))

    def _tell_progress(self, step: int, steps: int) -> Iterator[LiveEvent]:
        if step > self._reached[1]:
            self._reached = (self._reached[0], step)
            yield LiveEvent("progress", self._id(), progress_data(step, steps))

    def _tell_end(self, snapshot: Snapshot) -> Iterator[LiveEvent]:
        body = self._here.answers.prediction(snapshot.row, snapshot.images)
        if snapshot.status is PredictionStatus.SUCCEEDED and not snapshot.row["data_removed"]:
            yield LiveEvent("output", self._id(), {"output": body["output"], "thumbnails": body["thumbnails"]})
        yield LiveEvent("done", DONE_ID, body)
