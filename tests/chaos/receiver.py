"""A webhook receiver that behaves as the path of its URL says, and keeps a log of its own of what came."""

from __future__ import annotations

import contextlib
import random
import socket
import socketserver
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Manner = Literal["good", "500", "429", "410", "silent", "dripping", "redirecting", "resetting"]

# 410 says that it never wants to hear of it again; everybody else takes the third attempt at the latest.
MANNERS: tuple[Manner, ...] = ("good", "500", "429", "410", "silent", "dripping", "redirecting", "resetting")
WEIGHTS = (60, 8, 5, 4, 4, 3, 6, 6)
REFUSES_TIMES = {"500": 2, "429": 1, "silent": 1, "dripping": 1, "redirecting": 2, "resetting": 2}
# Longer than the courier's own limit in these runs.
SILENT_FOR_S = 4.0

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


@dataclass(frozen=True)
class Arrived:
    """One POST that was read to its end, and whether it was answered with 200."""

    path: str
    webhook_id: str
    headers: dict[str, str]
    body: bytes
    taken: bool


class Receiver:
    """An HTTP server on loopback. `is_open` false: connections are closed as soon as they are accepted."""

    def __init__(self) -> None:
        self.log: list[Arrived] = []
        self.misbehaved: Counter[str] = Counter()
        self.is_open = True
        self.port = 0
        self._lock = threading.Lock()
        self._attempts: Counter[str] = Counter()
        self._closing = threading.Event()

    def url(self, manner: Manner, number: int) -> str:
        return f"http://127.0.0.1:{self.port}/{manner}/{number}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[Receiver]:
        receiver = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):
                    self.request.settimeout(10)
                    receiver._handle(self.request)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True
            request_queue_size = 128

        with Server(("127.0.0.1", 0), Handler) as server:
            self.port = server.server_address[1]
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
            thread.start()
            try:
                yield self
            finally:
                self._closing.set()
                server.shutdown()

    def arrived(self) -> list[Arrived]:
        with self._lock:
            return list(self.log)

    def _handle(self, connection: socket.socket) -> None:
        if not self.is_open:
            return
        path, headers, body = _read_request(connection)
        webhook_id = headers.get("webhook-id", "")
        manner = path.split("/")[1]
        with self._lock:
            self._attempts[webhook_id] += 1
            refuses = manner == "410" or self._attempts[webhook_id] <= REFUSES_TIMES.get(manner, 0)
            self.log.append(Arrived(path, webhook_id, headers, body, taken=not refuses))
            if refuses:
                self.misbehaved[manner] += 1
        if not refuses:
            connection.sendall(OK)
        else:
            self._refuse(connection, manner)

    def _refuse(self, connection: socket.socket, manner: str) -> None:
        if manner in ("500", "410"):
            connection.sendall(f"HTTP/1.1 {manner} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        elif manner == "429":
            connection.sendall(b"HTTP/1.1 429 No\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif manner == "redirecting":
            target = f"http://127.0.0.1:{self.port}/never-followed/0"
            connection.sendall(f"HTTP/1.1 302 Found\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode())
        elif manner == "silent":
            self._closing.wait(SILENT_FOR_S)
        elif manner == "dripping":
            until = time.monotonic() + SILENT_FOR_S
            for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 1000:
                connection.sendall(bytes([byte]))
                if time.monotonic() > until or self._closing.wait(0.1):
                    return
        elif manner == "resetting":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()


def choose_manner(chance: random.Random) -> Manner:
    return chance.choices(MANNERS, WEIGHTS)[0]


def takes_in_the_end(url: str) -> bool:
    """Whether the receiver behind a URL of ours takes a delivery that is tried often enough."""
    return "/410/" not in url


def _read_request(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    with connection.makefile("rb") as stream:
        path = stream.readline().decode("latin-1").split()[1]
        headers = {}
        while line := stream.readline().decode("latin-1").strip():
            name, _, value = line.partition(":")
            headers[name.strip().lower()] = value.strip()
        length = int(headers["content-length"])
        body = stream.read(length)
        if len(body) < length:
            raise ValueError("it was cut off")
        return path, headers, body
