"""What a client has not taken yet: an answer, or a part of it."""

from __future__ import annotations

import select
import socket
import time

from api.server.limits import Limits
from api.server.response.buffered import Buffered

AT_ONCE_BYTES = 256 * 1024


class Outgoing:
    """The bytes that one client gets, in order. One thread uses it at a time."""

    def __init__(self, connection: socket.socket, limits: Limits, buffered: Buffered | None = None) -> None:
        self._connection = connection
        self._limits = limits
        self._buffered = buffered
        self._counted = 0
        self._buffer = bytearray()
        self.sent_bytes = 0

    @property
    def size_bytes(self) -> int:
        return len(self._buffer)

    def put(self, data: bytes) -> None:
        self._buffer += data

    def send_some(self) -> bool:
        """Send what the client takes without waiting; whether all is sent. Raises OSError where the client is gone."""
        try:
            while self._buffer:
                large = len(self._buffer) > AT_ONCE_BYTES
                piece = self._buffer[:AT_ONCE_BYTES] if large else self._buffer
                sent = self._connection.send(piece, socket.MSG_DONTWAIT)
                del self._buffer[:sent]
                self.sent_bytes += sent
        except BlockingIOError:
            pass
        self._count()
        return not self._buffer

    def send_all(self) -> None:
        """Send everything, and wait for the client. Raises TimeoutError where it takes too slowly, and OSError."""
        if self.send_some():
            return
        give_up_at = time.monotonic() + self._limits.to_send_s(len(self._buffer))
        writable = select.poll()
        writable.register(self._connection, select.POLLOUT)
        while not self.send_some():
            left_s = give_up_at - time.monotonic()
            if left_s <= 0 or not writable.poll(1000 * left_s):
                raise TimeoutError("the client takes its answer too slowly (API_SEND_TIMEOUT_S, API_MIN_BYTES_PER_S)")

    def clear(self) -> None:
        self._buffer.clear()
        self._count()

    def _count(self) -> None:
        if self._buffered is not None and self._counted != len(self._buffer):
            self._buffered.add(len(self._buffer) - self._counted)
            self._counted = len(self._buffer)
