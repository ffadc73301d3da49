"""Detects frozen workers: their process runs and keeps its place, but sends no heartbeat and draws nothing."""

from __future__ import annotations

from storage.workers.registry import Sign

LOOK_EVERY_S = 5.0
# Longer than a lease (6 s; another worker has its predictions by then), and longer than a healthy worker needs to
# reconnect after a network failure (10 s to notice it, 5 s to connect). We count looks, not seconds: there are none
# while Postgres is down, and a supervisor that was frozen itself (a laptop that slept) counts that time as one look.
SILENT_LOOKS = 6
SILENT_S = LOOK_EVERY_S * SILENT_LOOKS

# Not "loading": while a model loads, it may block all other threads of the process for any length of time.
READY = ("idle", "drawing", "draining", "standby")


class Silence:
    """The missed heartbeats of one process. `earlier` is the row of an earlier process with the same pid."""

    def __init__(self, earlier: Sign | None) -> None:
        self._earlier = earlier
        self._last: Sign | None = None
        self._silent_looks = 0

    def is_too_long(self, sign: Sign | None) -> bool:
        """Record the newest look; return whether the worker is frozen. None: no row (rescue removes it after 1 min)."""
        if sign is not None and self._earlier is not None and sign.worker_id == self._earlier.worker_id:
            sign = None
        if sign in (None, self._last):
            self._silent_looks += 1
        else:
            self._last, self._silent_looks = sign, 0
        return self._last is not None and self._last.state in READY and self._silent_looks >= SILENT_LOOKS
