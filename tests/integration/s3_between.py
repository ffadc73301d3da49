"""A server in front of the real S3 server: requests go there as they are, signatures included; some answers change."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

DENIED = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"


@contextmanager
def without_listing(endpoint_url: str) -> Iterator[str]:
    """As AWS answers a key that may not list the bucket: 403 AccessDenied for an object that doesn't exist."""
    with _between(endpoint_url, hides_missing=True) as url:
        yield url


@contextmanager
def hanging_on(endpoint_url: str, part_of_key: str) -> Iterator[str]:
    """It doesn't answer a GET of an object whose key contains `part_of_key`."""
    with _between(endpoint_url, hangs_on=part_of_key) as url:
        yield url


@contextmanager
def _between(endpoint_url: str, *, hides_missing: bool = False, hangs_on: str | None = None) -> Iterator[str]:
    upstream = urlsplit(endpoint_url)
    closing = threading.Event()

    class Between(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            if self.command == "GET" and hangs_on is not None and hangs_on in self.path:
                closing.wait()
                self.close_connection = True
                return
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=10)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
            if hides_missing and status == 404 and b"NoSuchBucket" not in content:
                status, content = 403, DENIED
            self.send_response(status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/xml"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        do_GET = do_PUT = do_POST = answer  # noqa: N815 (the names that BaseHTTPRequestHandler looks for)

        def log_message(self, *args: object) -> None:
            """Not into the output of the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        closing.set()
        server.shutdown()
        server.server_close()
        serving.join()
