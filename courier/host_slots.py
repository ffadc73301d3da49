"""A few places for each receiver's host, so that a slow one can't take every thread of a courier."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

# In flight at once to one host, from one courier.
PLACES_PER_HOST = 4

# A host whose POSTs take longer than this is slow: nobody waits for a place there. A quick one is worth waiting
# for, which is cheaper than putting the delivery back into the queue.
PATIENCE_S = 0.25

# How long a delivery that found no place stays away: longer where many do, so that they don't keep the
# database busy with coming back.
MIN_STAY_AWAY_S = 1.0
MAX_STAY_AWAY_S = 30.0
_TURNED_AWAY_PER_SECOND = 20


@dataclass
class _Host:
    entered_at: dict[object, float] = field(default_factory=dict)  # time.monotonic() of those inside
    turned_away: int = 0  # since it was idle


class NoPlace(Exception):
    """The host has no place free; come back after `stay_away_s`."""

    def __init__(self, stay_away_s: float) -> None:
        super().__init__(stay_away_s)
        self.stay_away_s = stay_away_s


class HostSlots:
    """Who is being posted to, in this process."""

    def __init__(self, places_per_host: int = PLACES_PER_HOST) -> None:
        self._places = places_per_host
        self._hosts: dict[str, _Host] = {}
        self._changed = threading.Condition()

    @contextmanager
    def place(self, name: str) -> Iterator[None]:
        """Hold a place at a host. Raises NoPlace, after PATIENCE_S at most."""
        ticket = object()
        with self._changed:
            host = self._hosts.setdefault(name, _Host())
            if not self._is_free(host) and self._is_quick(host):
                self._changed.wait_for(lambda: self._is_free(host) or not self._is_quick(host), PATIENCE_S)
            # It may have become idle, and been forgotten, while we waited.
            host = self._hosts.setdefault(name, host)
            if not self._is_free(host):
                host.turned_away += 1
                raise NoPlace(min(MIN_STAY_AWAY_S + host.turned_away / _TURNED_AWAY_PER_SECOND, MAX_STAY_AWAY_S))
            host.entered_at[ticket] = time.monotonic()
        try:
            yield
        finally:
            with self._changed:
                del host.entered_at[ticket]
                if not host.entered_at:
                    del self._hosts[name]
                self._changed.notify_all()

    def _is_free(self, host: _Host) -> bool:
        return len(host.entered_at) < self._places

    def _is_quick(self, host: _Host) -> bool:
        return not host.entered_at or time.monotonic() - min(host.entered_at.values()) < PATIENCE_S
