"""What happens while everything starts: a line for each stage, and the present one on a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from cli.supervision.log_stream import LogStream


class Stages:
    """Times are seconds since the command began."""

    def __init__(self, log: LogStream) -> None:
        self._log = log
        self._began = time.monotonic()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        self._log.progress(f"{self._seconds()}  {name} …")
        yield
        self._log.dim(f"{self._seconds()}  {name}")

    def _seconds(self) -> str:
        return f"{time.monotonic() - self._began:5.1f} s"
