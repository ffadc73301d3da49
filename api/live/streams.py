"""Streams of one prediction: Replicate's own (`urls.stream`), and ours, as server-sent events and as a WebSocket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

from flask import Blueprint, Response, request

from api.auth import caller, needs, open_to_all
from api.browsers.cross_site import for_all_pages
from api.docs.operation import documented
from api.docs.parameters import SIGNED
from api.errors import NotFound, Problem
from api.files.signed_link import require_signed_link
from api.live.access_watch import Access
from api.live.events import DONE_ID, live
from api.live.sse import PING_S, compact, event, stream_response, take_slot
from api.live.upgrade import websocket_response
from api.live.watch import DATA_REMOVED, Snapshot, watch
from api.live.websocket import WebSocketResponse
from api.predictions.ownership import find_own
from api.services import Services, services
from storage.access.scopes import Scope
from storage.access.tokens import read_in_use
from storage.predictions.read import read_prediction
from storage.predictions.states import PredictionStatus

blueprint = Blueprint("streams", __name__)

NOTHING_MORE = 204  # tells a browser's EventSource not to connect again


@blueprint.get("/files/<prediction_id>/stream")
@documented(
    "Replicate's stream, by signed URL (`urls.stream`)",
    {200: None, 204: None},
    section="Live",
    media="text/event-stream",
    query=SIGNED,
    errors=(403, 404),
)
@for_all_pages
@open_to_all
def replicate_stream(prediction_id: str) -> Response:
    """`urls.stream`: the events `output`, `logs`, `error` and `done`; any other name breaks Replicate's clients."""
    access = _signed_access(prediction_id, "stream")
    heard = request.headers.get("Last-Event-ID", "")
    if heard == DONE_ID:
        return Response(status=NOTHING_MORE)
    here = services()
    take_slot(here, access)
    return stream_response(here, lambda: _replicate_events(here, prediction_id, access, _Heard.parse(heard)), access)


@blueprint.get("/predictions/<prediction_id>/events")
@documented(
    "Progress as server-sent events",
    {200: None, 204: None},
    section="Live",
    media="text/event-stream",
    errors=(404,),
    details="queued, loading, progress, preview, output, done; the state as it is comes first.",
)
@needs(Scope.READ)
def events(prediction_id: str) -> Response:
    """The present state, then each change: queued, loading, progress, preview, output, done."""
    _require_prediction(prediction_id)
    return _events(prediction_id, caller().access)


@blueprint.get("/files/<prediction_id>/events")
@documented(
    "Progress, by signed URL",
    {200: None, 204: None},
    section="Live",
    media="text/event-stream",
    query=SIGNED,
    errors=(403, 404),
)
@for_all_pages
@open_to_all
def signed_events(prediction_id: str) -> Response:
    """`urls.events`: the same for a browser's EventSource, which sends no token."""
    return _events(prediction_id, _signed_access(prediction_id, "events"))


# Werkzeug lets a rule match either WebSockets or all other requests: the others are told what they need.
@blueprint.get("/predictions/<prediction_id>/ws")
@blueprint.route("/predictions/<prediction_id>/ws", websocket=True)
@documented("The same over a WebSocket", {101: None}, section="Live", errors=(404, 426))
@needs(Scope.READ)
def websocket(prediction_id: str) -> Response:
    """The same events over a WebSocket, each a text message: `{"event", "id", "data"}`."""
    _require_prediction(prediction_id)
    return _websocket(prediction_id, caller().access)


@blueprint.get("/files/<prediction_id>/ws")
@blueprint.route("/files/<prediction_id>/ws", websocket=True)
@documented("The same over a WebSocket", {101: None}, section="Live", query=SIGNED, errors=(403, 404, 426))
@for_all_pages
@open_to_all
def signed_websocket(prediction_id: str) -> Response:
    """`urls.events` with `ws` in its path instead of `events`: a browser's WebSocket sends no token either."""
    return _websocket(prediction_id, _signed_access(prediction_id, "events"))


def _events(prediction_id: str, access: Access | None) -> Response:
    if request.headers.get("Last-Event-ID") == DONE_ID:
        return Response(status=NOTHING_MORE)
    here = services()

    def texts() -> Iterator[str | None]:
        for told in live(here, here.positions, prediction_id, access, tick_s=PING_S):
            yield event(told.name, compact(told.data), told.id) if told else None

    take_slot(here, access)
    return stream_response(here, texts, access)


def _websocket(prediction_id: str, access: Access | None) -> Response:
    here = services()

    def messages() -> Iterator[str | None]:
        for told in live(here, here.positions, prediction_id, access, tick_s=WebSocketResponse.TICK_S):
            yield compact(told.to_json()) if told else None

    return websocket_response(here, messages, access)


@dataclass(frozen=True)
class _Heard:
    """How much of a prediction a listener has: what an event's id says, so that a reconnect repeats nothing."""

    logs: int = 0  # characters
    outputs: int = 0

    @classmethod
    def parse(cls, last_event_id: str) -> _Heard:
        logs, _, outputs = last_event_id.partition("-")
        known = all(part.isascii() and part.isdigit() and len(part) < 10 for part in (logs, outputs))
        return cls(int(logs), int(outputs)) if known else cls()

    def __str__(self) -> str:
        return f"{self.logs}-{self.outputs}"


def _replicate_events(here: Services, prediction_id: str, access: Access | None, heard: _Heard) -> Iterator[str | None]:
    for seen in watch(here, prediction_id, access, tick_s=lambda: PING_S):
        if not isinstance(seen, Snapshot):
            yield None
            continue
        logs = seen.row["logs"]
        if len(logs) > heard.logs:
            text, heard = logs[heard.logs :], _Heard(len(logs), heard.outputs)
            yield event("logs", text, str(heard))
        if not seen.is_over:
            continue
        output = here.answers.prediction(seen.row, seen.images)["output"] or []
        for index in range(heard.outputs, len(output)):
            heard = _Heard(heard.logs, index + 1)
            yield event("output", output[index], str(heard))
        error = seen.row["error"] if seen.status is PredictionStatus.FAILED else None
        if seen.status is PredictionStatus.SUCCEEDED and seen.row["data_removed"]:
            error = DATA_REMOVED
        if error is not None:
            yield event("error", json.dumps({"detail": error}), str(heard))
        reason = "error" if error is not None else "canceled" if seen.status is PredictionStatus.CANCELED else None
        yield event("done", json.dumps({"reason": reason} if reason else {}), DONE_ID)


def _signed_access(prediction_id: str, name: str) -> Access | None:
    """What the URL's signature permits, for as long as the prediction's token is in use.

    A rotated token keeps its predictions, and so their URLs. None: the prediction belongs to no token.
    """
    require_signed_link(prediction_id, name)
    with services().pool.connection() as conn:
        row = read_prediction(conn, prediction_id)
        if row is None:
            raise NotFound("the prediction was deleted")
        if services().settings.auth == "none" or row["token_id"] is None:
            return None
        if not read_in_use(conn, [row["token_id"]]):
            raise Problem(403, "Forbidden", "the token that this prediction belongs to was revoked")
        return Access(row["token_id"])


def _require_prediction(prediction_id: str) -> None:
    with services().pool.connection() as conn:
        find_own(conn, prediction_id)
