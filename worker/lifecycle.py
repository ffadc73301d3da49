"""The stages of a worker's life: starting, drawing, draining, left. Every way to stop it is here."""

from __future__ import annotations

import threading
import time
from enum import Enum, auto


class Stage(Enum):
    """Where a worker is in its life, and what moves it on."""

    STARTING = auto()  # waits for its bucket, loads its model. Loaded: DRAWING; told to stop, or failed: LEFT
    DRAWING = auto()  # claims and draws. Told to stop, idle for long enough, or the device is lost: DRAINING
    DRAINING = auto()  # claims no more, ends what it holds until `leave_by`. Nothing is held any more: LEFT
    LEFT = auto()  # holds nothing


class Lifecycle:
    """The stage of one worker. Any thread may call it."""

    def __init__(self, *, grace_s: float) -> None:
        self._grace_s = grace_s
        self._lock = threading.Lock()
        self._stage = Stage.STARTING
        self._leave_by: float | None = None

    @property
    def stage(self) -> Stage:
        return self._stage

    @property
    def leave_by(self) -> float:
        """When the grace period ends (`time.monotonic()`). What is not done by then is handed back."""
        assert self._leave_by is not None, "set when DRAINING begins"
        return self._leave_by

    def time_is_up(self) -> bool:
        """Whether the grace period is over."""
        return self._leave_by is not None and time.monotonic() >= self._leave_by

    def begin_drawing(self) -> bool:
        """STARTING → DRAWING. False if the worker was told to stop meanwhile: then it must not claim anything."""
        with self._lock:
            if self._stage is not Stage.STARTING:
                return False
            self._stage = Stage.DRAWING
            return True

    def stop(self) -> Stage:
        """What SIGTERM means at each stage; returns the stage it came in.

        STARTING: leave now, for nothing is held. DRAWING: drain within the grace period. DRAINING: the grace period
        is over. LEFT: nothing.
        """
        with self._lock:
            before = self._stage
            if before is Stage.STARTING:
                self._stage = Stage.LEFT
            elif before is Stage.DRAWING:
                self._begin_draining(self._grace_s)
            elif before is Stage.DRAINING:
                self._leave_by = time.monotonic()
            return before

    def drain(self, *, at_once: bool) -> None:
        """DRAWING → DRAINING for the worker's own reasons. A worker that drains already keeps its time."""
        with self._lock:
            if self._stage is Stage.DRAWING:
                self._begin_draining(0.0 if at_once else self._grace_s)

    def end(self) -> None:
        """Any stage → LEFT."""
        with self._lock:
            self._stage = Stage.LEFT

    def _begin_draining(self, within_s: float) -> None:
        self._leave_by = time.monotonic() + within_s
        self._stage = Stage.DRAINING
