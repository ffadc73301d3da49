"""Clients that take their time: each kind holds a connection and never gets further."""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.support.raw_http import connect

# So little that an answer of 100 kB gets stuck: the kernel doubles it.
SMALL_BUFFER_BYTES = 2048
DRIP_EVERY_S = 1.0


@dataclass
class Kind:
    """What such a client sends at first, and then again and again."""

    name: str
    sends: Callable[[bytes], bytes]  # from the Host field
    drips: bytes = b""
    reads: bool = True


KINDS = (
    Kind("nothing", lambda host: b""),
    Kind("half a header", lambda host: b"POST /v1/predictions HTTP/1.1\r\n" + host + b"X-Long: " + b"a" * 8000),
    Kind("half a body", lambda host: post(host) + b"Content-Length: 60000\r\n\r\n" + b"[" * 30_000),
    Kind("half a chunk", lambda host: post(host) + b"Transfer-Encoding: chunked\r\n\r\nffff\r\n" + b"[" * 30_000),
    Kind("a dripping header", lambda host: b"POST /v1/predictions HTTP/1.1\r\n" + host, drips=b"X: 1\r\n"),
    Kind("a dripping body", lambda host: post(host) + b"Content-Length: 60000\r\n\r\n", drips=b"["),
    Kind("never reads", lambda host: b"GET /openapi.json HTTP/1.1\r\n" + host + b"\r\n", reads=False),
    Kind(
        "pipelines and never reads", lambda host: 50 * (b"GET /openapi.json HTTP/1.1\r\n" + host + b"\r\n"), reads=False
    ),
)


def post(host: bytes) -> bytes:
    return b"POST /v1/predictions HTTP/1.1\r\n" + host + b"Content-Type: application/json\r\n"


@dataclass
class SlowClients:
    """So many of each kind, on connections of their own; those that the server closes come again."""

    url: str
    each: int
    kinds: Sequence[Kind] = KINDS
    closed: dict[str, int] = field(default_factory=dict)  # by the server, since the beginning
    _open: dict[socket.socket, Kind] = field(default_factory=dict)
    _drip_at: float = 0.0

    def __post_init__(self) -> None:
        self._host = f"Host: {urlsplit(self.url).netloc}\r\n".encode()
        self._selector = selectors.DefaultSelector()
        self.closed = {kind.name: 0 for kind in self.kinds}

    @property
    def open(self) -> int:
        return len(self._open)

    def come(self) -> None:
        for _ in range(self.each):
            for kind in self.kinds:
                self._connect(kind)

    def go_on(self, seconds: float) -> None:
        """Drip, and come again where the server has closed, for that long."""
        until = time.monotonic() + seconds
        while (left_s := until - time.monotonic()) > 0:
            for key, _ in self._selector.select(min(left_s, 0.2)):
                self._read(key.fileobj)
            if time.monotonic() < self._drip_at:
                continue
            self._drip_at = time.monotonic() + DRIP_EVERY_S
            for connection, kind in list(self._open.items()):
                if kind.drips:
                    with suppress(OSError):
                        connection.send(kind.drips)

    def leave(self) -> None:
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._selector.close()

    def _connect(self, kind: Kind) -> None:
        connection = connect(self.url, receive_bytes=None if kind.reads else SMALL_BUFFER_BYTES)
        connection.setblocking(False)
        with suppress(OSError):
            connection.send(kind.sends(self._host))
        self._open[connection] = kind
        if kind.reads:
            self._selector.register(connection, selectors.EVENT_READ)

    def _read(self, connection: object) -> None:
        assert isinstance(connection, socket.socket)
        try:
            if connection.recv(65536):
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        kind = self._open.pop(connection)
        self.closed[kind.name] += 1
        self._selector.unregister(connection)
        connection.close()
        with suppress(OSError):
            self._connect(kind)
