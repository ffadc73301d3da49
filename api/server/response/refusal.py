"""The server's own error response to a request that can't be passed to the application."""

from __future__ import annotations

import json
from http import HTTPStatus


class Refusal(Exception):
    """The request is answered with this error, and the connection is closed. `detail` says what to do about it."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail

    def render(self) -> bytes:
        """The whole answer, in the form of all errors of the API: `application/problem+json`."""
        phrase = HTTPStatus(self.status).phrase
        body = json.dumps({"title": phrase, "detail": self.detail, "status": self.status, "type": "about:blank"})
        head = (
            f"HTTP/1.1 {self.status} {phrase}\r\n"
            "Content-Type: application/problem+json\r\n"
            f"Content-Length: {len(body)}\r\n"
            "X-Content-Type-Options: nosniff\r\n"
            "Connection: close\r\n\r\n"
        )
        return f"{head}{body}".encode("ascii")
