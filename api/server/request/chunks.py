"""Reading a chunked body piece by piece, as RFC 9112 (7.1) has it and no other way: guessing helps smugglers."""

from __future__ import annotations

import re
from collections.abc import Callable
from enum import Enum, auto

from gunicorn.http.body import CHUNK_EXT_RE

from api.server.response.refusal import Refusal

SIZE = re.compile(rb"([0-9A-Fa-f]{1,16})(.*)", re.DOTALL)
# A size, and extensions, which no common client sends.
MAX_SIZE_LINE_BYTES = 256
MAX_TRAILER_BYTES = 8192
CRLF = b"\r\n"


class _Expects(Enum):
    SIZE = auto()
    DATA = auto()
    END_OF_DATA = auto()
    TRAILER = auto()
    NOTHING = auto()


class ChunkDecoder:
    """Takes chunks out of a buffer and writes what they hold. Trailers are dropped."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._expects = _Expects.SIZE
        self._left = 0  # bytes of the present chunk
        self._trailer_bytes = 0
        self.size_bytes = 0  # written so far

    def feed(self, buffer: bytearray, *, at_most: int) -> bool:
        """Take all that is complete; True at the end of the body, or after `at_most` bytes. Raises Refusal (400)."""
        while self._expects is not _Expects.NOTHING:
            if self._expects is _Expects.DATA:
                piece = bytes(buffer[: min(self._left, at_most - self.size_bytes)])
                if piece:
                    self._write(piece)
                    self.size_bytes += len(piece)
                    self._left -= len(piece)
                    del buffer[: len(piece)]
                if self.size_bytes >= at_most:
                    return True
                if self._left:
                    return False
                self._expects = _Expects.END_OF_DATA
            elif self._expects is _Expects.END_OF_DATA:
                if buffer[:2] != CRLF[: len(buffer)]:
                    raise Refusal(400, "a chunk of the body is longer than its size says")
                if len(buffer) < 2:
                    return False
                del buffer[:2]
                self._expects = _Expects.SIZE
            elif self._expects is _Expects.SIZE:
                line = _take_line(buffer, MAX_SIZE_LINE_BYTES)
                if line is None:
                    return False
                self._left = _size(line)
                self._expects = _Expects.DATA if self._left else _Expects.TRAILER
            else:
                line = _take_line(buffer, MAX_TRAILER_BYTES)
                if line is None:
                    return False
                self._trailer_bytes += len(line) + 2
                if self._trailer_bytes > MAX_TRAILER_BYTES or (line and line.find(b":") < 1):
                    raise Refusal(400, "what follows the last chunk of the body is no trailer, or is too long")
                if not line:
                    self._expects = _Expects.NOTHING
        return True


def _take_line(buffer: bytearray, at_most: int) -> bytes | None:
    """The first line without its end; None where it is not complete yet."""
    end = buffer.find(b"\n", 0, at_most + 2)
    if end < 0:
        if len(buffer) > at_most:
            raise Refusal(400, "a line between the chunks of the body is too long")
        return None
    line = bytes(buffer[: end + 1])
    if not line.endswith(CRLF) or b"\r" in line[:-2] or b"\0" in line:
        raise Refusal(400, "the lines between the chunks of the body need to end with CR and LF")
    del buffer[: end + 1]
    return line[:-2]


def _size(line: bytes) -> int:
    found = SIZE.fullmatch(line)
    if found is None or not CHUNK_EXT_RE.fullmatch(found[2]):
        raise Refusal(400, "the size of a chunk of the body is not a hexadecimal number")
    return int(found[1], 16)
