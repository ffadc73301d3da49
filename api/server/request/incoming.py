"""What a client has sent so far: bytes that become requests."""

from __future__ import annotations

import io
import re
from tempfile import TemporaryFile
from typing import IO, Any

from gunicorn.http.body import ChunkedReader, LengthReader
from gunicorn.http.message import Request

from api.server.limits import Limits
from api.server.request.chunks import ChunkDecoder
from api.server.request.head import parse_head
from api.server.request.uploads import may_be_large
from api.server.response.refusal import Refusal

HEAD_END = b"\r\n\r\n"
VERSION = re.compile(rb" HTTP/[0-9]\.[0-9]\Z")
# A larger body lies in a temporary file, so that many uploads at once don't fill the memory.
IN_MEMORY_BYTES = 64 * 1024
READ_BYTES, READ_BODY_BYTES = 16 * 1024, 256 * 1024


class Incoming:
    """The bytes of one connection. Bytes that follow a request are kept for the next one."""

    def __init__(self, config: Any, limits: Limits, client: Any) -> None:
        self._config = config
        self._limits = limits
        self._client = client
        self._buffer = bytearray()
        self._request: Request | None = None  # the head has arrived
        self._body: _Body | None = None
        self._may_ask = False  # whether this request may have a large body, if the application allows it
        self.asks_for_room: Request | None = None  # it has one; no more of it is taken until `decide`
        self._given_bytes = 0  # of the request that is being answered

    @property
    def is_empty(self) -> bool:
        """Whether no byte of a next request is here."""
        return self._request is None and not self._buffer

    @property
    def has_head(self) -> bool:
        return self._request is not None

    @property
    def expected_bytes(self) -> int:
        """The size of the body that is being read; of a chunked one, what has arrived."""
        return self._body.expected_bytes if self._body is not None else 0

    @property
    def in_memory_bytes(self) -> int:
        """Of what has arrived, and of the request that is being answered."""
        return len(self._buffer) + self._given_bytes + (self._body.in_memory_bytes if self._body is not None else 0)

    @property
    def read_bytes(self) -> int:
        """How much to read at once: hardly more than this request needs."""
        missing = self._body.missing_bytes if self._body is not None else 0
        return min(max(READ_BYTES, missing), READ_BODY_BYTES)

    def wants_continue(self) -> bool:
        """Whether the client waits for `100 Continue` before it sends the body; True once a request."""
        request = self._request
        if request is None or not request._expected_100_continue or self._buffer:
            return False
        request._expected_100_continue = False
        return True

    def feed(self, data: bytes) -> Request | None:
        """Take these bytes; the next request as soon as all of it has arrived, its body a file.

        A body above the limit is cut off, and the application says that it is too large. Raises Refusal, OSError
        where a large body can't be stored.
        """
        self._buffer += data
        if self._request is None and not self._begin_request():
            return None
        request, body = self._request, self._body
        assert request is not None
        if self.asks_for_room is not None:
            return None
        if body is not None and not body.take(self._buffer):
            return None
        if self._may_ask and body is not None and body.is_cut_off:
            self._may_ask, self.asks_for_room = False, request
            return None
        request._expected_100_continue = False  # else gunicorn says it when the answer begins
        if body is not None and body.is_cut_off:
            request.force_close()
        self._given_bytes = body.in_memory_bytes if body is not None else 0
        request.body = body.finish() if body is not None else io.BytesIO()
        self._request = self._body = None
        return request

    def decide(self, *, allowed: bool) -> None:
        """Whether the body of the request that asks for room may be large. Then `feed(b"")` goes on."""
        assert self._body is not None
        self.asks_for_room = None
        self._body.set_limit(self._limits.upload_bytes if allowed else self._limits.body_bytes)

    def forget_given(self) -> None:
        """The request is answered: its body is gone from the memory."""
        self._given_bytes = 0

    def clear(self) -> None:
        """Forget what has arrived: the connection ends."""
        self._buffer.clear()
        if self._body is not None:
            self._body.close()
        self._request = self._body = self.asks_for_room = None

    def _begin_request(self) -> bool:
        """Read the head. False while it is incomplete."""
        buffer, limit = self._buffer, self._limits.header_bytes
        # One empty line before a request is allowed, and is not the end of its head.
        end = buffer.find(HEAD_END, 2 if buffer.startswith(b"\r\n") else 0, limit)
        if end < 0:
            _refuse_hopeless(buffer, limit)
            return False
        head = bytes(buffer[: end + len(HEAD_END)])
        del buffer[: len(head)]
        self._request = parse_head(self._config, head, self._client)
        self._body = body = _body_of(self._request, self._limits.body_bytes)
        self._may_ask = (
            body is not None and may_be_large(self._request) and body.may_fit_into(self._limits.upload_bytes)
        )
        return True


def _refuse_hopeless(buffer: bytearray, limit: int) -> None:
    """Raise Refusal for the beginning of a head that can't become a good one: its client shall not have to wait."""
    if len(buffer) >= limit:
        raise Refusal(431, f"the header of the request has more than {limit} bytes (MAX_HEADER_BYTES)")
    if buffer.count(b"\n") != buffer.count(b"\r\n"):
        raise Refusal(400, "the lines of the header need to end with CR and LF; this port speaks HTTP without TLS")
    first_line, found, _ = buffer.removeprefix(b"\r\n").partition(b"\r\n")
    if found and not VERSION.search(first_line):
        raise Refusal(400, "the first line is not `METHOD /path HTTP/1.1`; this port speaks HTTP without TLS")


class _Body:
    """A body that arrives: of known length, or chunked."""

    def __init__(self, length: int | None, limit: int) -> None:
        self._file: IO[bytes] = io.BytesIO()
        self._length = length
        self._limit = limit
        self._arrived = 0
        self._chunks = ChunkDecoder(self._write) if length is None else None
        self.is_cut_off = length is not None and length > limit

    def set_limit(self, limit: int) -> None:
        """To be called where it is over its limit. (A chunked one has been taken up to one byte more than that.)"""
        self._limit = limit
        self.is_cut_off = (self._arrived if self._length is None else self._length) > limit

    def may_fit_into(self, limit: int) -> bool:
        """Whether it is, or may become, larger than its own limit and not than that one."""
        return self._length is None or self._limit < self._length <= limit

    @property
    def expected_bytes(self) -> int:
        return self._arrived if self._length is None else self._length

    @property
    def missing_bytes(self) -> int:
        return 0 if self._length is None else self._length - self._arrived

    @property
    def in_memory_bytes(self) -> int:
        return self._file.tell() if isinstance(self._file, io.BytesIO) else 0

    def take(self, buffer: bytearray) -> bool:
        """Take what belongs to the body; True when it is complete, or above the limit."""
        if self.is_cut_off:
            return True
        if self._chunks is not None:
            # The application reads one byte past the limit to see that there are too many.
            is_over = self._chunks.feed(buffer, at_most=self._limit + 1)
            self._arrived = self._chunks.size_bytes
            self.is_cut_off = self._arrived > self._limit
            return is_over
        piece = buffer[: self.missing_bytes]
        self._write(piece)
        self._arrived += len(piece)
        del buffer[: len(piece)]
        return self.missing_bytes == 0

    def _write(self, piece: bytes | bytearray) -> None:
        if self.in_memory_bytes + len(piece) > IN_MEMORY_BYTES and isinstance(self._file, io.BytesIO):
            in_memory, self._file = self._file, TemporaryFile()  # noqa: SIM115 # who answers the request closes it
            self._file.write(in_memory.getbuffer())
        self._file.write(piece)

    def finish(self) -> IO[bytes]:
        self._file.seek(0)
        return self._file

    def close(self) -> None:
        self._file.close()


def _body_of(request: Request, limit: int) -> _Body | None:
    """What the head says about the body; gunicorn has refused contradictions."""
    reader = request.body.reader
    if isinstance(reader, ChunkedReader):
        return _Body(None, limit)
    assert isinstance(reader, LengthReader)
    return _Body(reader.length, limit) if reader.length else None
