"""Answering a request for a WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from flask import request

from api.errors import Problem
from api.live.access_watch import Access
from api.live.client_connection import client_connection, expect_answers
from api.live.sse import PING_S, owner_of, take_slot
from api.live.websocket import WebSocketResponse, wants_websocket
from api.services import Services


def websocket_response(
    here: Services, messages: Callable[[], Iterable[str | None]], access: Access | None
) -> WebSocketResponse:
    """A WebSocket that sends these messages. None stands for a moment without a message.

    Raises Problem where the request asks for no WebSocket, or there are too many streams.
    """
    if not wants_websocket(request.environ):
        said = "this is a WebSocket; server-sent events are at …/events"
        raise Problem(426, "Upgrade required", said, headers={"Upgrade": "websocket"})
    take_slot(here, access)
    expect_answers(client_connection())
    response = WebSocketResponse(messages, ping_s=PING_S, is_closing=lambda: here.events.is_closing)
    response.call_on_close(lambda: here.streaming.give_back(owner_of(access)))
    return response
