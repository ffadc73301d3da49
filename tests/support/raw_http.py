"""HTTP by the byte: what no client library would send, and everything that comes back."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

PATIENCE_S = 60.0


def connect(url: str, *, receive_bytes: int | None = None) -> socket.socket:
    """A connection to the server of this URL; with a receive buffer that small, its answers soon get stuck."""
    address = urlsplit(url)
    connection = socket.socket()
    if receive_bytes is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    connection.settimeout(PATIENCE_S)
    connection.connect((address.hostname, address.port))
    return connection


def ask(url: str, sent: bytes, *more: bytes, pause_s: float = 0.05) -> bytes:
    """All that comes back until the server closes, after these bytes (in pieces, with a pause between)."""
    with connect(url) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(sent)
            for piece in more:
                time.sleep(pause_s)
                connection.sendall(piece)
        return read_to_the_end(connection)


def read_to_the_end(connection: socket.socket) -> bytes:
    came = b""
    with suppress(ConnectionResetError):
        while data := connection.recv(65536):
            came += data
    return came


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def answers(came: bytes) -> list[Answer]:
    """The answers in what came back; each has to say how long it is."""
    found = []
    while came:
        head, ended, rest = came.partition(b"\r\n\r\n")
        assert ended, came
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split(" ")[1])
        length = 0 if status == 100 else int(headers["content-length"])
        assert len(rest) >= length, came
        found.append(Answer(status, headers, rest[:length]))
        came = rest[length:]
    return found
