"""How long each phase of a worker's start took, up to its first picture: for the metrics of that prediction.

The phases add up to the time from the start of the process to the stored picture: process, imports (none in a worker
that was forked from a warm parent), weights, device, claim, first_step, steps, decode, upload. `docs/hosts.md` says
what each consists of.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import psutil

STARTED_AT = 19  # `starttime` of proc(5), counted from the field after the name


def process_age_s() -> float:
    """For how long this process has run. On Linux to a hundredth of a second.

    Linux counts a start from the boot. psutil adds the time of the boot, which is rounded to a whole second.
    """
    if sys.platform != "linux":
        return max(0.0, time.time() - psutil.Process().create_time())
    ticks = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[STARTED_AT])
    return max(0.0, time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK"))


class ColdStart:
    """A stopwatch with laps. Any thread may call it; the laps come one after the other."""

    def __init__(self) -> None:
        """The first lap began when the process did."""
        self._lap_began = time.monotonic() - process_age_s()
        self.seconds: dict[str, float] = {}

    def end_of(self, phase: str) -> None:
        """The phase has ended, and the next one begins. Of phases that end again, only the first end counts."""
        if phase in self.seconds:
            return
        now = time.monotonic()
        self.seconds[phase] = round(now - self._lap_began, 6)
        self._lap_began = now
