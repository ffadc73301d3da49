"""Says when the data folder's disk is about to be full, and when there is room again."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LOOK_EVERY_S = 1.0
# Postgres writes its log of changes in files of 16 MB.
POSTGRES_NEEDS_BYTES = 2 * 16 * 2**20
# There has to be so much more room before it counts as room, or a file of the log would be told as a change.
ROOM_BYTES = 16 * 2**20


class DiskWatch:
    """`tick` is called often. `on_room` is called when a disk that was full has room again."""

    def __init__(
        self, folder: Path, *, needed_bytes: int, say: Callable[[str], None], on_room: Callable[[], None]
    ) -> None:
        self._folder = folder
        self._needed_bytes = needed_bytes
        self._say = say
        self._on_room = on_room
        self._is_full = False
        self._look_at = 0.0

    def tick(self) -> None:
        now = time.monotonic()
        if now < self._look_at:
            return
        self._look_at = now + LOOK_EVERY_S
        with suppress(OSError):
            self._judge(shutil.disk_usage(self._folder).free)

    def _judge(self, free_bytes: int) -> None:
        if not self._is_full and free_bytes < self._needed_bytes:
            self._is_full = True
            self._say(
                f"The disk of {self._folder} is full: it has {free_bytes // 2**20} MiB left, and Darkroom needs"
                f" {self._needed_bytes // 2**20}. Pictures wait to be stored, and when Postgres has no room either, new"
                " requests get 503. Free some space: then work goes on by itself. Nothing that was accepted is lost."
            )
        elif self._is_full and free_bytes >= self._needed_bytes + ROOM_BYTES:
            self._is_full = False
            self._say(f"The disk of {self._folder} has room again, and work goes on.")
            self._on_room()
