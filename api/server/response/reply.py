"""Gunicorn's response, written into what the loop sends."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from gunicorn.http.wsgi import Response

from api.server.response.buffered import Buffered
from api.server.response.outgoing import Outgoing

SEND_ABOVE_BYTES = 64 * 1024


class Reply(Response):  # type: ignore[misc] # gunicorn has no types
    """An answer of known length is left to the loop; one without (a stream) goes out at once, part by part."""

    def __init__(
        self,
        request: Any,
        connection: socket.socket,
        config: Any,
        outgoing: Outgoing,
        buffered: Buffered,
        shed: Callable[[], None],
    ) -> None:
        super().__init__(request, connection, config)
        self.version = "Darkroom"  # the header Server, without gunicorn's name
        self.headers_sent: bool
        self._outgoing = outgoing
        self._buffered = buffered
        self._shed = shed

    @property
    def is_complete(self) -> bool:
        """Whether the client got as many bytes as the header says."""
        return self._omits_body or self.response_length is None or self.sent == self.response_length

    def send_headers(self) -> None:
        if self.headers_sent:
            return
        lines = [*self.default_headers(), *(f"{name}: {value}\r\n" for name, value in self.headers), "\r\n"]
        self._outgoing.put("".join(lines).encode("latin-1"))
        self.headers_sent = True

    def _emit_body(self, data: bytes) -> None:
        if self.response_length is None:
            self._outgoing.put(b"%X\r\n%b\r\n" % (len(data), data) if self.chunked else data)
            self._outgoing.send_all()
            return
        self._outgoing.put(data)
        if (
            self._outgoing.size_bytes > SEND_ABOVE_BYTES
            and not self._outgoing.send_some()
            and self._buffered.is_too_much
        ):
            self._shed()
            self._outgoing.send_all()

    def close(self) -> None:
        self.send_headers()
        if self.chunked:
            self._outgoing.put(b"0\r\n\r\n")
        self._outgoing.send_some()
