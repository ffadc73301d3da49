"""OpenAI's images API: generate, on the same queue as everything else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import psycopg
import structlog
from flask import Blueprint, Response

from api.auth import caller, needs
from api.docs.answers import OpenAIError
from api.docs.operation import documented
from api.errors import Problem, bucket_away
from api.live.access_watch import Access
from api.live.client_connection import LOOK_EVERY_S
from api.live.sse import compact, event, stream_response, take_slot
from api.live.waiting import wait_until_over
from api.live.watch import DATA_REMOVED, AccessEnded, Snapshot, watch
from api.openai.answers import about_images, answer, completed_event
from api.openai.errors import as_openai_error
from api.openai.schemas import ImageRequest, prediction_of
from api.parsing.json_body import json_object
from api.parsing.validation import validated
from api.pictures.asked import Role
from api.predictions.accept import accept
from api.services import Services, services
from storage.access.scopes import Scope
from storage.catalog import Model
from storage.errors import UnknownModel
from storage.formats import WEBP
from storage.postgres.database import Row
from storage.postgres.feed import Preview, Step
from storage.predictions.finish import Canceled, finish
from storage.predictions.states import PredictionStatus
from storage.s3.bucket import BucketUnavailable

log = structlog.get_logger(__name__)

blueprint = Blueprint("images", __name__)

# The client sends a request again after a 5xx: what failed or took too long must not be drawn three times.
DO_NOT_REPEAT = {"x-should-retry": "false"}


@blueprint.post("/images/generations")
@documented(
    "Draw, as OpenAI's clients ask for it",
    {200: None},
    section="OpenAI",
    body=ImageRequest,
    headers=("Idempotency-Key",),
    errors=(400, 404, 409, 410, 413, 429, 504),
    error=OpenAIError,
    example={"prompt": "a red circle on a blue background"},
    details="Waits until the picture is done; `stream` tells how it goes.",
)
@needs(Scope.DRAW)
def generate() -> Response:
    asked = validated(ImageRequest, json_object())
    return draw(asked, find_model(services(), asked.model))


def draw(asked: ImageRequest, model: Model) -> Response:
    """The answer to a request of OpenAI's clients: the images, or with `stream` the events that lead to them."""
    here = services()
    if asked.stream:
        return _stream(here, asked, model)
    owner = caller().token_id
    if not here.waiting.take(owner):
        raise Problem(
            503, "Too many waiting", "too many requests wait already: try again", headers={"Retry-After": "5"}
        )
    try:
        row = accept(prediction_of(asked), model, deadline_s=here.settings.openai_wait_s).row
        body, length = answer(here, asked, model, _wait(here, row))
        return Response(body, content_type="application/json", headers={"Content-Length": str(length)})
    finally:
        here.waiting.give_back(owner)


def find_model(here: Services, name: str | None, *, takes: Role | None = None) -> Model:
    """The model, by its name or by one of its aliases; where none is named, the catalog's first.

    With `takes`, the first that takes such a picture, if there is one. Raises Problem (404).
    """
    models = list(here.catalog.models.values())
    first = next((model for model in models if takes in model.takes), models[0])
    try:
        return here.catalog.find(name) if name is not None else first
    except UnknownModel as error:
        raise Problem(404, "Not found", str(error), code="model_not_found") from None


def _wait(here: Services, row: Row) -> Snapshot:
    """The prediction when it has succeeded. Raises Problem for any other end."""
    try:
        waited = wait_until_over(here, row, give_up_at=_give_up_at(here))
    except AccessEnded:
        _abandon(here, row)
        raise
    if waited.over is not None:
        _raise_unless_succeeded(here, waited.over)
        return waited.over
    if waited.client_left:
        _abandon(here, row)
        raise Problem(409, "Canceled", "the client has left", headers=DO_NOT_REPEAT)
    if here.events.is_closing:
        _abandon(here, row)
        raise _stopping()
    raise _too_late(here, row["id"])


def _abandon(here: Services, row: Row) -> None:
    """Cancel a prediction that can't be fetched any more: its client never got its id and has stopped waiting.

    With an Idempotency-Key the client can send the same request again and get the prediction, so it isn't cancelled.
    """
    if row["idempotency_key"] is not None:
        return
    try:
        with here.pool.connection() as conn:
            if finish(conn, here.renderer, row["id"], Canceled()) is not None:
                log.info("prediction.abandoned", prediction_id=row["id"])
    except psycopg.OperationalError:  # then its deadline ends it
        log.warning("prediction.not_abandoned", prediction_id=row["id"], reason="Postgres is away")


def _stopping() -> Problem:
    return Problem(
        503, "Stopping", "this API process is stopping: send the request again", headers={"Retry-After": "2"}
    )


def _give_up_at(here: Services) -> float:
    """When to stop waiting: one second after the deadline at which rescue cancels the prediction."""
    return time.monotonic() + here.settings.openai_wait_s + 1


def _too_late(here: Services, prediction_id: str, logs: str = "") -> Problem:
    """The message ends with the last line of the logs, which OpenAI's clients can't read. It may say why a model can't
    be loaded.
    """
    why = f"; its logs end with: {logs.strip().rpartition(chr(10))[2]}" if logs else ""
    return Problem(
        504,
        "Too late",
        f"prediction {prediction_id} was not done within {here.settings.openai_wait_s:g} s (OPENAI_WAIT_S){why}",
        headers=DO_NOT_REPEAT,
    )


def _raise_unless_succeeded(here: Services, snapshot: Snapshot) -> None:
    if snapshot.status is PredictionStatus.SUCCEEDED:
        if snapshot.row["data_removed"]:
            raise Problem(410, "Gone", f"prediction {snapshot.row['id']}: {DATA_REMOVED}", headers=DO_NOT_REPEAT)
        return
    if snapshot.status is PredictionStatus.CANCELED:
        if snapshot.row["deadline_at"] <= snapshot.row["completed_at"]:
            raise _too_late(here, snapshot.row["id"], snapshot.row["logs"])
        raise Problem(409, "Canceled", snapshot.row["error"] or "the prediction was canceled", headers=DO_NOT_REPEAT)
    raise Problem(500, "Failed", snapshot.row["error"] or "the prediction failed", headers=DO_NOT_REPEAT)


def _stream(here: Services, asked: ImageRequest, model: Model) -> Response:
    access = caller().access
    take_slot(here, access)
    try:
        row = accept(prediction_of(asked), model, deadline_s=here.settings.openai_wait_s).row
    except BaseException:
        here.streaming.give_back(access.token_id)
        raise
    response = stream_response(here, lambda: _events_until_revoked(here, asked, model, row, access), access)
    response.call_on_close(lambda: _abandon(here, row))  # nothing happens where it is over
    return response


def _events_until_revoked(
    here: Services, asked: ImageRequest, model: Model, row: Row, access: Access
) -> Iterator[str | None]:
    try:
        yield from _events(here, asked, model, row, access)
    except AccessEnded as ended:
        yield _error_event(ended)


def _events(here: Services, asked: ImageRequest, model: Model, row: Row, access: Access) -> Iterator[str | None]:
    latest = Snapshot(row, [])
    partials, progress = 0, 0.0
    for seen in watch(here, row["id"], access, give_up_at=_give_up_at(here), tick_s=lambda: LOOK_EVERY_S):
        if isinstance(seen, Step):
            progress = seen.step / max(1, seen.steps)
        elif isinstance(seen, Preview):
            # Spread over the drawing: of two partial images, one after a third of the steps, one after two thirds.
            if (
                partials < (asked.partial_images or 0)
                and (progress * (asked.partial_images or 0) + progress) > partials
            ):
                partial = about_images(asked, latest.row) | {
                    "output_format": WEBP.openai_name,
                    "created_at": int(time.time()),
                }
                partial |= {"b64_json": seen.webp_base64, "partial_image_index": partials}
                yield _event(f"{asked.event_name}.partial_image", partial)
                partials += 1
        elif isinstance(seen, Snapshot):
            latest = seen
            if seen.is_over:
                yield from _last_events(here, asked, model, seen)
                return
        else:
            yield None
    yield _error_event(_stopping() if here.events.is_closing else _too_late(here, row["id"]))


def _last_events(here: Services, asked: ImageRequest, model: Model, snapshot: Snapshot) -> Iterator[str]:
    try:
        _raise_unless_succeeded(here, snapshot)
        urls = here.answers.prediction(snapshot.row, snapshot.images)["output"]
        for image, url in zip(snapshot.images, urls, strict=True):
            yield from completed_event(here, asked, model, snapshot, image, url)
    except BucketUnavailable as error:
        log.warning("api.bucket_away", prediction_id=snapshot.row["id"], reason=str(error))
        yield _error_event(bucket_away())
    except Problem as problem:
        yield _error_event(problem)


def _event(type_: str, data: dict[str, Any]) -> str:
    return event(type_, compact({"type": type_} | data), "0")


def _error_event(problem: Problem) -> str:
    said = {"title": problem.title, "detail": problem.detail, "status": problem.status}
    return _event("error", {"error": as_openai_error(said)})
