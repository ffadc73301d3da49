"""One line that says how far a prediction is: its place, loading, steps. On standard error, and only in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class ProgressLine:
    """Tell it each event of `follow`."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._task = progress.add_task("sent", total=None)

    def tell(self, event: str, data: dict[str, Any]) -> None:
        if event in ("queued", "loading"):
            self._progress.update(self._task, description=waiting_words(event, data), total=None)
        elif event == "progress":
            self._progress.update(
                self._task, description=f"step {data['step']} of {data['steps']}", total=data["steps"]
            )
            self._progress.update(self._task, completed=data["step"])
        elif event == "output":
            self._progress.update(self._task, description="stored")


def waiting_words(event: str, data: dict[str, Any]) -> str:
    """What a `queued` or `loading` event says to people."""
    words = "the model is being loaded" if event == "loading" else "waiting"
    if data.get("position"):
        words += f", number {data['position']} in the queue"
    if (wait_s := data.get("estimated_wait_seconds")) is not None:
        words += f", begins in about {wait_s:.0f} s"
    return words


@contextmanager
def progress_line(*, quiet: bool) -> Iterator[ProgressLine | None]:
    """Yields None if `quiet` is set or standard error is not a terminal."""
    if quiet or not sys.stderr.isatty():
        yield None
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(bar_width=24), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield ProgressLine(progress)
