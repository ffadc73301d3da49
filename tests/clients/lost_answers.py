"""A line between a client and the API on which answers get lost: a request is carried out, its client can't know."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

from tests.support.receivers import running
from tests.support.serving import Service

HOP_BY_HOP = {"connection", "content-length", "transfer-encoding"}  # between the API and this line only


@dataclass
class Line:
    url: str = ""
    lost: int = 0  # answers that are lost from now on, of POSTs
    posts: list[str] = field(default_factory=list)  # the path of each, whether its answer got through or not


@contextmanager
def losing_answers(service: Service) -> Iterator[Line]:
    """A real server in front of the API's, which hangs up where it should have answered."""
    line = Line(lost=1)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._pass_on()

        def do_POST(self) -> None:
            line.posts.append(self.path)
            self._pass_on()

        def _pass_on(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with closing(http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=60)) as api:
                api.request(self.command, self.path, body, dict(self.headers.items()))
                answer = api.getresponse()
                content = answer.read()
            if self.command == "POST" and line.lost:
                line.lost -= 1
                return  # without an answer: the connection is closed
            self.send_response_only(answer.status)
            for name, value in answer.headers.items():
                if name.lower() not in HOP_BY_HOP:
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False  # closing the server waits for them

    with Server(("127.0.0.1", 0), Handler) as server, running(server):
        line.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield line
