"""One stream for everything that runs: each line with the role that wrote it in front."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from typing import IO, TextIO

MOST_LINES_WAITING = 10_000
LONGEST_LINE_BYTES = 16_384
PREFIX_WIDTH = 8
COLOURS = {"api": 36, "courier": 35, "worker": 32, "postgres": 34, "s3": 33, "up": 90}


class LogStream:
    """Writes lines to our stdout on a thread of its own.

    A terminal that stands still never holds up a child: its lines are taken in all the same, and the oldest are
    dropped (and counted) when too many wait.
    """

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._on_terminal = out.isatty()
        self._colours = self._on_terminal and not os.environ.get("NO_COLOR")
        self._waiting: deque[str] = deque()
        self._dropped = 0
        self._changed = threading.Condition()
        self._writing = False
        self._progress = ""
        self._broken = False
        threading.Thread(target=self._write_for_ever, daemon=True, name="log").start()

    def line(self, text: str) -> None:
        """A line of our own, as it is."""
        self._put(text + "\n")

    def dim(self, text: str) -> None:
        self.line(f"\x1b[2m{text}\x1b[0m" if self._colours else text)

    def from_role(self, role: str, text: str) -> None:
        prefix = f"{role:<{PREFIX_WIDTH}}|"
        if self._colours:
            prefix = f"\x1b[{COLOURS.get(role.split('-')[0], 37)}m{prefix}\x1b[0m"
        self.line(f"{prefix} {text}")

    def progress(self, text: str) -> None:
        """A line that the next one overwrites. Shown only on a terminal."""
        if self._on_terminal:
            self._put("\r" + text)

    def follow(self, role: str, pipe: IO[bytes]) -> threading.Thread:
        """Forward the child's output until every process that has the write end of the pipe has ended."""

        def pump() -> None:
            with pipe:
                for raw in iter(lambda: pipe.readline(LONGEST_LINE_BYTES), b""):
                    self.from_role(role, raw.decode(errors="replace").rstrip("\r\n"))

        thread = threading.Thread(target=pump, daemon=True, name=f"log of {role}")
        thread.start()
        return thread

    def flush(self, patience_s: float = 1.0) -> None:
        """Wait until all lines are written, at most `patience_s`."""
        deadline = time.monotonic() + patience_s
        with self._changed:
            while (self._waiting or self._writing) and time.monotonic() < deadline:
                self._changed.wait(0.1)

    def _put(self, text: str) -> None:
        with self._changed:
            if len(self._waiting) >= MOST_LINES_WAITING:
                self._waiting.popleft()
                self._dropped += 1
            self._waiting.append(text)
            self._changed.notify_all()

    def _write_for_ever(self) -> None:
        while True:
            with self._changed:
                self._writing = False
                self._changed.notify_all()
                while not self._waiting:
                    self._changed.wait()
                texts = list(self._waiting)
                self._waiting.clear()
                if self._dropped:
                    texts.insert(0, f"… {self._dropped} lines were dropped: the output was not read in time\n")
                    self._dropped = 0
                self._writing = True
            self._write(texts)

    def _write(self, texts: list[str]) -> None:
        if self._broken:
            return
        pieces = []
        for text in texts:
            if self._progress:
                pieces.append("\r\x1b[K")
            self._progress = text if text.startswith("\r") else ""
            pieces.append(text)
        try:
            self._out.write("".join(pieces))
            self._out.flush()
        except (OSError, ValueError):  # the reader of our output has ended; the service goes on
            self._broken = True
