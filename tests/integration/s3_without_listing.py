"""An S3 server as AWS answers a key that may not list the bucket: 403 AccessDenied for an object that doesn't exist.

SeaweedFS says 404 to everybody, so this stands between: what it is asked goes to the real server as it is, signatures
included, and a 404 comes back as AWS's 403.
"""

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
    """The URL of the server between."""
    upstream = urlsplit(endpoint_url)

    class Between(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            connection = http.client.HTTPConnection(upstream.hostname or "", upstream.port, timeout=10)
            connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders(body or None)
            answer = connection.getresponse()
            status, content = answer.status, answer.read()
            if status == 404 and b"NoSuchBucket" not in content:
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
        server.shutdown()
        server.server_close()
        serving.join()
