"""A gateway in front of the real S3 server that answers some requests as a provider does, and passes on the rest.

Requests go on as they are, signatures included. The providers' own servers can't be had in tests; their answers are
from their documentation and from bug reports.
"""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

BUCKET_OPERATIONS = {"HEAD": "HeadBucket", "PUT": "CreateBucket", "GET": "ListObjects"}
OBJECT_OPERATIONS = {"HEAD": "HeadObject", "PUT": "PutObject", "GET": "GetObject", "DELETE": "DeleteObject"}


@dataclass(frozen=True)
class Request:
    """What a client asks of S3."""

    operation: str  # "PutObject", …
    headers: Mapping[str, str]


@dataclass(frozen=True)
class Refusal:
    """An answer in place of the S3 server's."""

    status: int
    code: str
    message: str = ""
    more: str = ""  # elements of the error's XML
    headers: Mapping[str, str] = field(default_factory=dict)


Rule = Callable[[Request], Refusal | None]


@dataclass
class Gateway:
    """Where the gateway listens, and the operations that it was asked for."""

    url: str
    asked: list[str] = field(default_factory=list)


def refuses(refusal: Refusal, *operations: str) -> Rule:
    """These operations are refused, all others pass."""
    return lambda request: refusal if request.operation in operations else None


def wants_content_md5(refusal: Refusal, operation: str) -> Rule:
    return lambda request: refusal if request.operation == operation and "Content-MD5" not in request.headers else None


@contextmanager
def gateway(endpoint_url: str, *rules: Rule) -> Iterator[Gateway]:
    upstream = urlsplit(endpoint_url)

    class Between(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            request = Request(_operation_of(self.command, self.path), self.headers)  # type: ignore[arg-type] # a mapping
            found.asked.append(request.operation)
            for rule in rules:
                if (refusal := rule(request)) is not None:
                    self._refuse(refusal)
                    return
            connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=30)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.headers.get("Content-Type", "application/xml"))
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)
            connection.close()

        def _refuse(self, refusal: Refusal) -> None:
            text = f"<Error><Code>{refusal.code}</Code><Message>{refusal.message}</Message>{refusal.more}</Error>"
            content = b"" if self.command == "HEAD" else text.encode()
            self.send_response_only(refusal.status)
            if "Date" not in refusal.headers:
                self.send_header("Date", self.date_time_string())
            for name, value in refusal.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/xml")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = answer  # noqa: N815 (BaseHTTPRequestHandler's names)

        def log_message(self, *args: object) -> None:
            """Not into the output of the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Between)
    found = Gateway(f"http://127.0.0.1:{server.server_address[1]}")
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        serving.join()


def _operation_of(method: str, target: str) -> str:
    url = urlsplit(target)
    query = parse_qs(url.query, keep_blank_values=True)
    if "delete" in query:
        return "DeleteObjects"
    if "versioning" in query:
        return f"{'Put' if method == 'PUT' else 'Get'}BucketVersioning"
    is_object = "/" in url.path.strip("/")
    return (OBJECT_OPERATIONS if is_object else BUCKET_OPERATIONS).get(method, method)
