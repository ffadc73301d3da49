"""What can go wrong with the embedded servers."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from storage.errors import OperatorError


class EmbeddedServerError(OperatorError):
    """The embedded server can't run here; the message says why and what to do."""


class StartCancelled(Exception):
    """The start was given up because the caller's `cancelled` event was set; nothing is left running."""


class Cancellation(Protocol):
    """Asked again and again while something starts: a threading.Event, or `cli.interrupts.StopRequest`."""

    def is_set(self) -> bool: ...


def last_lines(log: Path, count: int = 3) -> str:
    """The end of a server's log in one line, for a message."""
    try:
        lines = log.read_bytes()[-4000:].decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return " / ".join(line.strip() for line in lines[-count:])


def says_disk_full(log: Path) -> bool:
    return "no space left on device" in last_lines(log, 20).lower()
