"""What can go wrong with the embedded servers."""

from __future__ import annotations

from typing import Protocol

from storage.errors import OperatorError


class EmbeddedServerError(OperatorError):
    """The embedded server can't run here; the message says why and what to do."""


class StartCancelled(Exception):
    """The start was given up because the caller's `cancelled` event was set; nothing is left running."""


class Cancellation(Protocol):
    """Asked again and again while something starts: a threading.Event, or `cli.supervision.interrupts.StopRequest`."""

    def is_set(self) -> bool: ...
