"""The `Range` header: which bytes of a file are asked for (RFC 9110, section 14)."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Only a single range is supported. For several ranges, and for anything else, the whole file is served: the RFC
# allows that, and no common client asks for several.
ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,30})-([0-9]{0,30})[ \t]*", re.IGNORECASE)


class Unsatisfiable(Exception):
    """The range begins behind the end of the file, or asks for its last 0 bytes."""


@dataclass(frozen=True)
class ByteRange:
    """From `first` to `last`, both included."""

    first: int
    last: int

    @property
    def size_bytes(self) -> int:
        return self.last - self.first + 1


def parse_range(header: str | None, size_bytes: int) -> ByteRange | None:
    """The range of a file of that size; None: serve the whole file. Raises Unsatisfiable."""
    found = ONE_RANGE.fullmatch(header or "")
    if found is None or found.groups() == ("", ""):
        return None
    first, last = found.groups()
    if not first:  # the last so many bytes
        begin, end = max(0, size_bytes - int(last)), size_bytes - 1
    else:
        begin, end = int(first), min(int(last), size_bytes - 1) if last else size_bytes - 1
        if last and int(last) < begin:
            return None  # malformed
    if begin >= size_bytes:
        raise Unsatisfiable
    return ByteRange(begin, end)
