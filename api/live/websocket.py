"""A WebSocket on the connection of a WSGI request: the server says all, the client only listens.

The server (api/server/worker.py) hands the socket over and takes a StopIteration for "this connection is used up". One
thread serves a WebSocket: between two messages it looks whether the client said anything.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterable
from typing import Any, NoReturn

import structlog
from flask import Response
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    RejectConnection,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from api.auth import SUBPROTOCOL
from api.live.watch import AccessEnded
from api.server.response.outgoing import Outgoing

log = structlog.get_logger(__name__)

NORMAL_CLOSURE, GOING_AWAY, POLICY_VIOLATION = 1000, 1001, 1008
READ_BYTES = 4096


def wants_websocket(environ: dict[str, Any]) -> bool:
    """Whether the request asks for an upgrade, on a server that hands its socket over."""
    return environ.get("HTTP_UPGRADE", "").lower() == "websocket" and "darkroom.limits" in environ


class WebSocketResponse(Response):
    """Sends `messages` until they end or the client leaves; None among them is a moment to look at the client."""

    TICK_S = 1.0  # how late a client's ping, or its leaving, is noticed

    def __init__(
        self, messages: Callable[[], Iterable[str | None]], *, ping_s: float, is_closing: Callable[[], bool]
    ) -> None:
        super().__init__(status=101)
        self._messages = messages
        self._ping_s = ping_s
        self._is_closing = is_closing

    def __call__(self, environ: dict[str, Any], start_response: Any) -> NoReturn:
        try:
            conversation = _Conversation(environ, self._ping_s)
            try:
                conversation.hold(self._messages())
                conversation.end(GOING_AWAY if self._is_closing() else NORMAL_CLOSURE)
            except AccessEnded as ended:
                conversation.end(POLICY_VIOLATION, ended.detail)
        except _Left:
            pass
        except (OSError, ProtocolError) as error:
            log.debug("websocket.ended", reason=str(error))
        finally:
            self.close()
        raise StopIteration


class _Left(Exception):
    """The client closed the WebSocket, or is silent."""


class _Conversation:
    def __init__(self, environ: dict[str, Any], ping_s: float) -> None:
        self._socket: socket.socket = environ["gunicorn.socket"]
        self._outgoing = Outgoing(self._socket, environ["darkroom.limits"])
        self._environ = environ
        self._ping_s = ping_s
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._answered = True  # our last ping
        self._said_at = time.monotonic()

    def hold(self, messages: Iterable[str | None]) -> None:
        """Shake hands and send all messages. Raises _Left, OSError, ProtocolError."""
        self._accept()
        for message in messages:
            self._listen()
            if message is not None:
                self._send(TextMessage(message))
            elif time.monotonic() - self._said_at >= self._ping_s:
                if not self._answered:
                    raise _Left
                self._answered = False
                self._send(Ping())

    def end(self, code: int, reason: str | None = None) -> None:
        self._send(CloseConnection(code, reason))

    def _accept(self) -> None:
        """Give wsproto the request as it came: the server has taken it off the socket already."""
        lines = [f"GET {self._environ.get('RAW_URI', '/')} HTTP/1.1"]
        lines += [
            f"{name[5:].replace('_', '-')}: {value}"
            for name, value in self._environ.items()
            if name.startswith("HTTP_") and isinstance(value, str)
        ]
        self._protocol.receive_data("\r\n".join([*lines, "", ""]).encode("latin-1"))
        self._answer()
        if self._protocol.state is not ConnectionState.OPEN:
            raise _Left

    def _listen(self) -> None:
        """Take what the client said, without waiting for it. Raises _Left."""
        while True:
            try:
                data = self._socket.recv(READ_BYTES, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            self._protocol.receive_data(data or None)
            self._answer()
            if not data:
                raise _Left

    def _answer(self) -> None:
        for event in self._protocol.events():
            match event:
                case Request(subprotocols=offered):
                    # Browsers close a WebSocket for which they offered subprotocols and none was accepted.
                    self._send(AcceptConnection(subprotocol=SUBPROTOCOL if SUBPROTOCOL in offered else None))
                case Ping():
                    self._send(event.response())
                case Pong():
                    self._answered = True
                case CloseConnection():
                    self._send(event.response())
                    raise _Left
                case RejectConnection() | TextMessage() | BytesMessage():
                    pass  # a listener has nothing to say

    def _send(self, event: Event) -> None:
        self._outgoing.put(self._protocol.send(event))
        self._outgoing.send_all()
        self._said_at = time.monotonic()
