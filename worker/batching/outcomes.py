"""What the scheduler reports about the attempts that it was given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from worker.attempts.attempt import Attempt

if TYPE_CHECKING:
    from PIL.Image import Image


class Outcomes(Protocol):
    """After any number of `on_step`, one of the other four is called once. All run on the drawing thread: be quick."""

    def on_step(self, attempt: Attempt, preview: Callable[[], Image] | None) -> None:
        """It took a step."""

    def on_drawn(self, attempt: Attempt, fetch_images: Callable[[], list[Image]]) -> None:
        """It is drawn. `fetch_images` waits for the pixels; call it on another thread."""

    def on_failed(self, attempt: Attempt, reason: str) -> None:
        """It can't be drawn. `reason` is for the client."""

    def on_lost(self, attempt: Attempt) -> None:
        """Its claim is lost: canceled, past its deadline, or claimed by another worker."""

    def on_unfinished(self, attempt: Attempt) -> None:
        """This worker leaves and gives it back. Another worker may draw it."""
