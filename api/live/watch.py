"""Following one prediction: its row whenever it changed, and events that aren't stored (steps, previews)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from api.auth import Unauthorized
from api.live.access_watch import Access
from api.server.threads import expect_to_sleep
from api.services import Services
from storage.postgres.database import Row
from storage.postgres.feed import Preview, Signal, Step
from storage.predictions.read import read_prediction, with_images
from storage.predictions.states import PredictionStatus

log = structlog.get_logger(__name__)

READ_AGAIN_AFTER_S = 1.0
DATA_REMOVED = "its images were removed after the retention time (RETENTION_S): send the request again to get new ones"


@dataclass(frozen=True)
class Snapshot:
    """A prediction as it is now."""

    row: Row
    images: list[Row]

    @property
    def status(self) -> PredictionStatus:
        return PredictionStatus(self.row["status"])

    @property
    def is_over(self) -> bool:
        return self.status.is_terminal


class Quiet:
    """Nothing came for a while."""


class AccessEnded(Unauthorized):
    """The request lasted longer than the permission to make it."""

    def __init__(self) -> None:
        super().__init__(
            "the token was revoked, replaced or lost a scope while this request lasted, or the API needs one by now"
        )


QUIET = Quiet()
NEVER_S = 3600.0


def watch(
    here: Services,
    prediction_id: str,
    access: Access | None,
    *,
    give_up_at: float | None = None,
    tick_s: Callable[[], float] = lambda: NEVER_S,
) -> Iterator[Snapshot | Step | Preview | Quiet]:
    """What happens to a prediction, beginning with its present state.

    It ends when the prediction is over or was removed, at `give_up_at` (of `time.monotonic()`), and when the process
    stops. It yields Quiet after `tick_s()` without news. No database connection is held between two yields, and a
    database that is away is waited for: the listener says MOVED when it listens again.

    `access` is what let the request in; None for what can't be revoked. Raises AccessEnded when it was revoked.
    """
    expect_to_sleep()
    with ExitStack() as held:
        feed = held.enter_context(here.events.follow(prediction_id))
        if access is not None:
            held.enter_context(here.access_watch.watching(access, feed.revoke))
        while True:
            left_s = NEVER_S if give_up_at is None else max(0.0, give_up_at - time.monotonic())
            news = feed.next(min(tick_s(), left_s))
            if news is Signal.CLOSED:
                return
            if news is Signal.REVOKED:
                raise AccessEnded
            if news is Signal.MOVED:
                try:
                    snapshot = _read(here, prediction_id)
                except psycopg.OperationalError as error:
                    log.warning("watch.postgres_away", prediction_id=prediction_id, reason=_first_line(error))
                    time.sleep(READ_AGAIN_AFTER_S)
                    feed.put(Signal.MOVED)
                    yield QUIET
                    continue
                if snapshot is None:
                    return
                yield snapshot
                if snapshot.is_over:
                    return
                del snapshot  # a stream may wait for hours
            elif isinstance(news, (Step, Preview)):
                yield news
            else:
                yield QUIET
            if give_up_at is not None and time.monotonic() >= give_up_at:
                return


def _read(here: Services, prediction_id: str) -> Snapshot | None:
    with here.pool.connection() as conn:
        row = read_prediction(conn, prediction_id)
        if row is None:
            return None
        if row["status"] != PredictionStatus.SUCCEEDED:
            return Snapshot(row, [])
        [row], images = with_images(conn, [row])
        return Snapshot(row, images[prediction_id])


def _first_line(error: Any) -> str:
    return str(error).strip().partition("\n")[0]
