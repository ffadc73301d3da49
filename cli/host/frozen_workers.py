"""Whether a worker that runs still says that it lives: a frozen one holds its place, and draws nothing."""

from __future__ import annotations

from storage.workers.registry import Sign

LOOK_EVERY_S = 5.0
# Longer than a lease (6 s: what it drew is another's by then), and than a healthy worker needs to be heard again after
# its network was cut (10 s until it notices, 5 s to connect). Looks are counted, not seconds: while Postgres is away
# there are none, and a supervisor that was frozen itself (a laptop that slept) made one, however long it was.
SILENT_LOOKS = 6
SILENT_S = LOOK_EVERY_S * SILENT_LOOKS

# A model that loads may keep everything else in its process waiting, for as long as it takes.
READY = ("idle", "drawing", "draining", "standby")


class Silence:
    """Of one process. `stranger` is what its pid's row said before it was started: an earlier process's word."""

    def __init__(self, stranger: Sign | None) -> None:
        self._stranger = stranger
        self._last: Sign | None = None
        self._silent_looks = 0

    def is_too_long(self, sign: Sign | None) -> bool:
        """Take in what the newest look has found; None is no row (rescue removes it after a minute)."""
        if sign is not None and self._stranger is not None and sign.worker_id == self._stranger.worker_id:
            sign = None
        if sign in (None, self._last):
            self._silent_looks += 1
        else:
            self._last, self._silent_looks = sign, 0
        return self._last is not None and self._last.state in READY and self._silent_looks >= SILENT_LOOKS
