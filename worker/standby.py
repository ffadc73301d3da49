"""Whether this worker stands by: its weights go to main memory, and the device is free for others.

A worker without a host does it by itself when it has been idle for STANDBY_AFTER_S, and wakes when it has claimed
something. Under `darkroom up` and `darkroom host`, the host decides, since other workers use the same device: it sends
STAND_BY and WAKE_UP. Such a worker claims nothing while it stands by.
"""

from __future__ import annotations

import signal
import threading

STAND_BY = signal.SIGUSR1
WAKE_UP = signal.SIGUSR2


class Standby:
    """The last order of the host, and how long a worker without a host is idle before it stands by."""

    def __init__(self, *, after_s: float | None = None, host_decides: bool = False) -> None:
        """`after_s`: None for never."""
        self.after_s = None if host_decides else after_s
        self.host_counts_idle_time = host_decides and after_s is not None
        self._ordered = threading.Event()

    @property
    def is_ordered(self) -> bool:
        return self._ordered.is_set()

    def order(self, *, stand_by: bool) -> None:
        """Any thread may call it."""
        if stand_by:
            self._ordered.set()
        else:
            self._ordered.clear()
