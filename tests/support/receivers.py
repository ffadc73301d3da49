"""Webhook receivers on loopback: real HTTP servers that answer as a test tells them, and remember what came.

They stand for another company's receiver, which can't be had here.
"""

import socketserver
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from storage.outbound.check_url import AllowList
from storage.webhooks.allowed_targets import AllowedTargets

LOOPBACK_ALLOWED = AllowList.parse("127.0.0.0/8,::1")
LOOPBACK_TARGETS = AllowedTargets(LOOPBACK_ALLOWED, LOOPBACK_ALLOWED)


@dataclass(frozen=True)
class Received:
    path: str
    headers: dict[str, str]  # names in lower case
    body: bytes
    at: float  # time.monotonic()


@dataclass(frozen=True)
class Answer:
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"ok"
    delay_s: float = 0.0


class Receiver:
    """Answers every POST by `answer`, which a test may replace at any time."""

    def __init__(self) -> None:
        self.requests: list[Received] = []
        self.answer: Callable[[Received], Answer] = lambda _: Answer()
        self.port = 0
        self._closing = threading.Event()
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    def answers(self, *answers: Answer) -> None:
        """Give these answers in turn; the last one goes on."""
        queue = list(answers)
        lock = threading.Lock()

        def next_answer(_: Received) -> Answer:
            with lock:
                return queue.pop(0) if len(queue) > 1 else queue[0]

        self.answer = next_answer

    def wait_for(self, count: int, *, timeout_s: float = 120) -> list[Received]:
        """The requests, once there are `count` of them. Fails the test otherwise."""
        with self._changed:
            came = self._changed.wait_for(lambda: len(self.requests) >= count, timeout_s)
            assert came, f"{len(self.requests)} of {count} requests came within {timeout_s:g} s"
            return list(self.requests)

    @contextmanager
    def serving(self, tls: ssl.SSLContext | None = None) -> Iterator["Receiver"]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                headers = {name.lower(): value for name, value in self.headers.items()}
                request = Received(self.path, headers, body, time.monotonic())
                answer = receiver.answer(request)
                with receiver._changed:
                    receiver.requests.append(request)
                    receiver._changed.notify_all()
                receiver._closing.wait(answer.delay_s)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body)

            def do_GET(self) -> None:
                self.do_POST()

            def log_message(self, *_: Any) -> None:
                pass

        with _Server(("127.0.0.1", 0), Handler) as server:
            if tls is not None:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            with running(server):
                self.port = server.server_address[1]
                try:
                    yield self
                finally:
                    self._closing.set()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # closing the server waits for them: a test leaves no thread behind

    def handle_error(self, *_: Any) -> None:
        pass  # a client that hung up is part of many tests


@contextmanager
def raw_server(handle: Callable[[Any, threading.Event], None], *, wrap: Any = None) -> Iterator[int]:
    """A TCP server for answers that no HTTP library would give; yields its port.

    `handle(socket, closing)` runs in a thread for each connection and should end once `closing` is set.
    `wrap` turns the accepted socket into another (TLS).
    """
    closing = threading.Event()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            connection = self.request if wrap is None else wrap(self.request)
            connection.settimeout(10)
            try:
                handle(connection, closing)
            finally:
                connection.close()

    class Server(socketserver.ThreadingTCPServer):
        allow_reuse_address = True
        daemon_threads = False

        def handle_error(self, *_: Any) -> None:
            pass

    with Server(("127.0.0.1", 0), Handler) as server, running(server):
        try:
            yield server.server_address[1]
        finally:
            closing.set()


@contextmanager
def running(server: socketserver.BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
