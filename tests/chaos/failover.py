"""Two Postgres servers, one of which copies the other: failed over, made read-only, and made whole again.

What a manager of such a pair does (Patroni, a provider) is done here by the clock of the run: it notices that the
primary is lost after a while, promotes the standby, has the address lead there, and makes a standby of the old primary.
"""

from __future__ import annotations

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psycopg

from cli.embedded import EmbeddedPostgres, EmbeddedServerError
from cli.processes import end_child
from tests.chaos.proxy import PostgresProxy
from tests.support.replicated_postgres import ReplicatedPostgres, alter, socket_of

# How the primary is lost: its process ends; nobody reaches it; or it is told to be one no longer, and everybody stays
# connected to it.
Loss = Literal["killed", "cut off", "demoted"]

AWAY_S = 1.0  # after the promotion, until an old primary that was killed or cut off is there as it was, read-only
AS_IT_WAS_S = 2.0  # … until it is made a standby
UNTIL_ALL_WAIT_S = 1.0  # processes of Postgres read a changed setting each in their own time
TRY_AGAIN_AFTER_S = 0.5
READ_ONLY = "default_transaction_read_only = on"


@dataclass
class _Next:
    """The next step towards a whole pair: tried again from `at` on until it has been done."""

    at: float
    step: Callable[[], bool]


class FailingPair:
    """`tick` does everything that is due; it is called often, on the main thread. `promotions`: time.time() of each."""

    def __init__(self, folder: Path) -> None:
        self.promotions: list[float] = []
        self._pair = ReplicatedPostgres(folder)
        self._next: _Next | None = None  # None: the standby copies the primary, or will as soon as both are up
        self._copying: subprocess.Popen[bytes] | None = None
        self._back_at = 0.0
        self._read_only: tuple[EmbeddedPostgres, float] | None = None  # until when

    @contextlib.contextmanager
    def running(self) -> Iterator[FailingPair]:
        with self._pair.running():
            self.address = PostgresProxy(socket_of(self.primary))  # of whichever is the primary
            try:
                yield self
            finally:
                self.address.close()
                if self._copying is not None:
                    end_child(self._copying)

    @property
    def primary(self) -> EmbeddedPostgres:
        return self._pair.primary

    @property
    def url(self) -> str:
        """Of both: libpq looks for the one that takes writes."""
        return self._pair.url

    def follow(self, address: PostgresProxy) -> None:
        """Have another address lead to whichever is the primary now."""
        address.point_to(socket_of(self.primary))

    def tick(self) -> None:
        now = time.monotonic()
        if self.primary.process.poll() is not None and now >= self._back_at and not self._is_leaderless:
            self._back_at = now + TRY_AGAIN_AFTER_S
            with contextlib.suppress(EmbeddedServerError):
                self.primary.launch()
        self._end_read_only(now)
        if self._next is not None and now >= self._next.at:
            due = self._next
            due.at = now + TRY_AGAIN_AFTER_S
            with contextlib.suppress(psycopg.OperationalError, EmbeddedServerError):
                if due.step() and self._next is due:
                    self._next = None

    def heal(self) -> None:
        """Let what has begun take its course at once."""
        self._back_at = 0.0
        if self._read_only is not None:
            self._read_only = (self._read_only[0], 0.0)
        if self._next is not None:
            self._next.at = 0.0

    def is_up(self) -> bool:
        return not self._is_leaderless and self._read_only is None and self.primary.is_ready()

    def stop_at_once(self, away_s: float) -> bool:
        """Its `immediate` shutdown: every connection is dropped, nothing is written; the next start recovers."""
        if self._is_leaderless or not self.primary.is_ready():
            return False
        self._back_at = time.monotonic() + away_s
        self.primary.process.send_signal(signal.SIGQUIT)
        with contextlib.suppress(subprocess.TimeoutExpired):  # the end of it is waited for elsewhere
            self.primary.process.wait(5)
        return True

    def make_read_only(self, for_s: float) -> bool:
        """As a provider does with a primary whose disk is full: what has begun is finished, nothing begins."""
        if self._is_leaderless or self._read_only is not None or not self.primary.is_ready():
            return False
        alter(self.primary, READ_ONLY)
        self._read_only = (self.primary, time.monotonic() + for_s)
        return True

    def fail_over(self, loss: Loss, *, noticed_after_s: float) -> bool:
        """Lose the primary. False if the standby may lack a commit that was answered: nobody would promote it then."""
        if self._next is not None or not self._is_whole():
            return False
        old = self.primary
        match loss:
            case "killed":
                self._pair.kill_primary()
            case "cut off":
                self._pair.port_of(old).cut()
                self.address.cut()
            case "demoted":
                alter(old, READ_ONLY)
        self._then(noticed_after_s, self._promote)
        return True

    @property
    def _is_leaderless(self) -> bool:
        return self._next is not None and self._next.step == self._promote

    def _is_whole(self) -> bool:
        try:
            return self.primary.is_ready() and self._pair.is_synchronous()
        except psycopg.OperationalError:
            return False

    def _then(self, after_s: float, step: Callable[[], bool]) -> None:
        self._next = _Next(time.monotonic() + after_s, step)

    def _promote(self) -> bool:
        self._pair.promote_standby()
        self.address.point_to(socket_of(self.primary))
        self.address.heal()
        self.promotions.append(time.time())
        self._then(AWAY_S, self._bring_back)
        return True

    def _bring_back(self) -> bool:
        """The old primary as it was, but for one thing: whoever promoted another has to see to it that it is fenced."""
        old = self._pair.standby
        if old.process.poll() is None:
            alter(old, READ_ONLY)
        else:
            with (old.data / "postgresql.auto.conf").open("a") as settings:
                settings.write(f"{READ_ONLY}\n")
            old.launch()
        self._pair.port_of(old).heal()
        self._then(AS_IT_WAS_S, self._copy)
        return True

    def _copy(self) -> bool:
        if self._copying is None:
            old = self._pair.standby
            end_child(old.process)  # its commits may wait for a standby, and an orderly stop waits for them
            old.end_leftovers()
            self._copying = self._pair.start_copy()
        code = self._copying.poll()
        if code is None:
            return False
        self._copying = None
        if code != 0:  # the primary went away: from the beginning
            return False
        self._pair.launch_standby()
        self._then(0.0, self._wait_for_standby)
        return True

    def _wait_for_standby(self) -> bool:
        """From here on, a commit is answered when both have it."""
        if self._pair.standby.process.poll() is not None:
            self._then(0.0, self._copy)
        if not self._pair.standby_follows():
            return False
        self._pair.wait_for_standby(True)
        self._then(UNTIL_ALL_WAIT_S, lambda: True)
        return True

    def _end_read_only(self, now: float) -> None:
        """Tried until it is done; if a copy became the primary meanwhile, there is nothing to end."""
        if self._read_only is None or now < self._read_only[1] or self._is_leaderless:
            return
        server = self._read_only[0]
        if server is not self.primary:
            self._read_only = None
            return
        with contextlib.suppress(psycopg.OperationalError):
            alter(server, "default_transaction_read_only = off")
            self._read_only = None
