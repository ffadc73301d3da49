"""The events of all of a caller's predictions on one connection.

Nothing is stored about a listener, and no history is kept. After `ready` a listener reads the list once; what happens
from then on is told.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import psycopg
import structlog

from api.live.access_watch import Access
from api.live.events import QUEUE_TICK_S, preview_data, progress_data
from api.live.queue_position import Waiting
from api.live.watch import READ_AGAIN_AFTER_S, AccessEnded
from api.server.threads import expect_to_sleep
from api.services import Services
from storage.postgres.database import Connection, Row
from storage.postgres.feed import OwnerFeed, OwnerNews, Signal
from storage.predictions.lists.follow import UNFINISHED_AT_MOST, read_changed, read_unfinished
from storage.predictions.progress import read_progress
from storage.predictions.read import with_images
from storage.predictions.states import PredictionStatus

log = structlog.get_logger(__name__)

# News that come closer together are read, and sent, together.
GATHER_S = 0.05
READ_AT_ONCE = 100
# With more predictions in the queue, the places of these are told: those that are next.
PLACES_AT_MOST = 100


@dataclass(frozen=True)
class OwnEvent:
    """One event; `data` becomes JSON."""

    name: str
    data: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"event": self.name, "data": self.data}


def follow_own(
    here: Services, token_id: int | None, access: Access, *, tick_s: float = QUEUE_TICK_S
) -> Iterator[list[OwnEvent]]:
    """Everything that happens to the predictions of a token (None: to all there are), in lists of what came together.

    A list is empty where nothing came for `tick_s`. It ends when the process stops. Raises AccessEnded when the access
    was revoked. A database that is away is waited for, and then there is another `ready`.
    """
    expect_to_sleep()
    with ExitStack() as held:
        feed = held.enter_context(here.events.follow_owner(token_id))
        held.enter_context(here.access_watch.watching(access, feed.revoke))
        stories = _Stories(here, token_id)
        while True:
            news = feed.next(min(tick_s, QUEUE_TICK_S))
            if news.end is Signal.CLOSED:
                return
            if news.end is Signal.REVOKED:
                raise AccessEnded
            yield _told(stories, news, feed)
            time.sleep(GATHER_S)


def _told(stories: _Stories, news: OwnerNews, feed: OwnerFeed) -> list[OwnEvent]:
    try:
        return list(stories.tell(news))
    except psycopg.OperationalError as error:
        log.warning("own_predictions.postgres_away", reason=str(error).strip().partition("\n")[0])
        time.sleep(READ_AGAIN_AFTER_S)
        feed.begin_anew()
        return []


@dataclass
class _Story:
    """What a listener was told of a prediction that isn't over."""

    model: str
    status: str
    attempt: int
    keep: bool | None = None  # None: nothing was told of it yet, the listener has it from the list
    waiting: Waiting | None = None
    step: int = -1


@dataclass
class _Stories:
    """What one listener was told of each prediction that isn't over, so that nothing is told twice."""

    here: Services
    token_id: int | None
    _stories: dict[str, _Story] = field(default_factory=dict)
    _knows_all: bool = True  # False: more wait than are remembered
    _places_told_at: float = 0.0  # of time.monotonic()

    def tell(self, news: OwnerNews) -> Iterator[OwnEvent]:
        if news.begins_anew:
            self._stories.clear()
            self._read_unfinished()
            yield OwnEvent("ready", {})
        moved = list(news.moved)
        for start in range(0, len(moved), READ_AT_ONCE):
            yield from self._tell_changes(moved[start : start + READ_AT_ONCE])
        for prediction_id, step in news.steps.items():
            yield from self._tell_progress(prediction_id, step.step, step.steps)
        for prediction_id, preview in news.previews.items():
            if self._is_drawn(prediction_id):
                yield OwnEvent("preview", {"id": prediction_id} | preview_data(preview))
        if time.monotonic() - self._places_told_at >= QUEUE_TICK_S or news.begins_anew:
            self._places_told_at = time.monotonic()
            yield from self._tell_places()

    def _read_unfinished(self) -> None:
        with self.here.pool.connection() as conn:
            rows = read_unfinished(conn, self.token_id)
        self._knows_all = len(rows) < UNFINISHED_AT_MOST
        for row in rows:
            story = self._stories.setdefault(row["id"], _Story(row["model"], row["status"], row["attempt"]))
            story.step = max(story.step, (read_progress(row["logs"]) or (-1, 0))[0])

    def _tell_changes(self, ids: list[str]) -> Iterator[OwnEvent]:
        with self.here.pool.connection() as conn:
            rows, images = self._read(conn, ids)
        for row in rows:
            if row["deleted_at"] is not None:
                self._stories.pop(row["id"], None)
                yield OwnEvent("deleted", {"id": row["id"]})
            elif self._is_news(row):
                yield OwnEvent("prediction", self.here.answers.prediction(row, images[row["id"]]))

    def _read(self, conn: Connection, ids: list[str]) -> tuple[list[Row], dict[str, list[Row]]]:
        return with_images(conn, read_changed(conn, self.token_id, ids))

    def _is_news(self, row: Row) -> bool:
        """Whether the row says something that wasn't told. Remembers it, if more will happen to it."""
        story = self._stories.get(row["id"])
        if PredictionStatus(row["status"]).is_terminal:
            self._stories.pop(row["id"], None)
            return True
        is_waiting = row["status"] == PredictionStatus.STARTING
        if story is None and is_waiting and len(self._stories) >= UNFINISHED_AT_MOST:
            self._knows_all = False  # its place is far back, so it is read again when those before it are gone
            return True
        now = (row["status"], row["attempt"], row["keep"])
        if story is not None and now == (story.status, story.attempt, story.keep):
            return False
        if story is None or now[:2] != (story.status, story.attempt):
            story = self._stories[row["id"]] = _Story(row["model"], row["status"], row["attempt"])
        story.keep = row["keep"]
        return True

    def _is_drawn(self, prediction_id: str) -> bool:
        story = self._stories.get(prediction_id)
        return story is not None and story.status == PredictionStatus.PROCESSING

    def _tell_progress(self, prediction_id: str, step: int, steps: int) -> Iterator[OwnEvent]:
        if self._is_drawn(prediction_id) and step > self._stories[prediction_id].step:
            self._stories[prediction_id].step = step
            yield OwnEvent("progress", {"id": prediction_id} | progress_data(step, steps))

    def _tell_places(self) -> Iterator[OwnEvent]:
        waiting_ids = [id_ for id_, story in self._stories.items() if story.status == PredictionStatus.STARTING]
        if not self._knows_all and len(waiting_ids) < PLACES_AT_MOST:
            self._read_unfinished()
        places = []
        for prediction_id in waiting_ids:
            waiting = self.here.positions.of({"id": prediction_id, "model": self._stories[prediction_id].model})
            if waiting is not None:  # None: it was claimed meanwhile, which is told when its row is read
                places.append((waiting.position, prediction_id, waiting))
        for _, prediction_id, waiting in sorted(places, key=lambda place: place[:2])[:PLACES_AT_MOST]:
            story = self._stories[prediction_id]
            if waiting.differs_from(story.waiting):
                story.waiting = waiting
                yield OwnEvent(waiting.event, {"id": prediction_id} | waiting.to_json())
