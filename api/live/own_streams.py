"""Streams of everything that happens to the caller's predictions, as server-sent events and as a WebSocket."""

from __future__ import annotations

from collections.abc import Iterator

from flask import Blueprint, Response

from api.auth import caller, needs
from api.docs.operation import documented
from api.live.own_predictions import follow_own
from api.live.sse import compact, event, stream_response, take_slot
from api.live.upgrade import websocket_response
from api.live.websocket import WebSocketResponse
from api.parsing.list_query import query
from api.services import services
from storage.access.scopes import Scope

blueprint = Blueprint("own_streams", __name__)


@blueprint.get("/events")
@documented(
    "What happens to all your predictions, as server-sent events",
    {200: None},
    section="Live",
    media="text/event-stream",
    errors=(422,),
    details="ready, prediction, deleted, queued, loading, progress, preview. It never ends.",
)
@needs(Scope.READ)
def events() -> Response:
    """Server-sent events without ids: a client that reconnects gets `ready`, and then reads the list."""
    query()
    here, token_id, access = services(), caller().token_id, caller().access

    def texts() -> Iterator[str | None]:
        for told in follow_own(here, token_id, access):
            yield "".join(event(one.name, compact(one.data)) for one in told) or None

    take_slot(here, access)
    return stream_response(here, texts, access)


# Werkzeug lets a rule match either WebSockets or all other requests: the others are told what they need.
@blueprint.get("/events/ws")
@blueprint.route("/events/ws", websocket=True)
@documented("The same over a WebSocket", {101: None}, section="Live", errors=(422, 426))
@needs(Scope.READ)
def websocket() -> Response:
    """The same events, each a text message: `{"event", "data"}`."""
    query()
    here, token_id, access = services(), caller().token_id, caller().access

    def messages() -> Iterator[str | None]:
        for told in follow_own(here, token_id, access, tick_s=WebSocketResponse.TICK_S):
            if not told:
                yield None
            for one in told:
                yield compact(one.to_json())

    return websocket_response(here, messages, access)
