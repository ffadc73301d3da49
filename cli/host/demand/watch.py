"""How much work waits, which workers live, and telling Postgres of those that died."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Collection, Mapping
from uuid import UUID, uuid4

import psutil
import psycopg

from cli.host.frozen_workers import LOOK_EVERY_S
from storage.catalog import Model
from storage.postgres.database import Connection, connect
from storage.postgres.notify import IDLE_CHANNEL, WARM_CHANNEL, WORKERS_CHANNEL, listen
from storage.predictions.rescue import expire_leases_of_process
from storage.workers.demand import Demand, waiting_by_model
from storage.workers.demand_leases import workers_elsewhere
from storage.workers.registry import Sign, read_signs, read_states
from storage.workers.warm import WorkerBounds, read_bounds

POLL_S = 0.5
AT_MOST_EVERY_S = 0.05
RECONNECT_AFTER_S = 0.5
# Procrastinate tells on it of every job that is inserted, in any queue.
ANY_QUEUE = "procrastinate_any_queue_v1"


class DemandWatch:
    """`demand` is at most half a second old while Postgres answers, and stays as it was while it doesn't.

    The same holds for `bounds` (by model, how many workers there are at least and at most), for `elsewhere` (by model,
    the workers that are not ours, also those that another host is about to start), and for the pids of this machine's
    workers: `standing_by`, `idle`, `ready` (those that have loaded their model and don't stand by) and `signed_in`
    (those that have a row in `workers` and don't stand by). `signs`, the workers' signs of life by pid, is a new object
    every LOOK_EVERY_S.
    """

    def __init__(
        self,
        url: str,
        *,
        models: Collection[Model] = (),
        host: UUID | None = None,
        changed: threading.Event | None = None,
        look_every_s: float = LOOK_EVERY_S,
    ) -> None:
        """`models`: whose `bounds` are read. `host`: the name of our leases on demand.

        `changed` is set whenever something new is known.
        """
        self.demand: Mapping[str, Demand] = {}
        self.bounds: Mapping[str, WorkerBounds] = {}
        self.elsewhere: Mapping[str, int] = {}
        self.signed_in: Collection[int] = ()
        self.ready: Collection[int] = ()
        self.idle: Collection[int] = ()
        self.standing_by: Collection[int] = ()
        self.own_pids: Collection[int] = ()  # of our workers, which our supervisor writes here
        self._models = models
        self._host = host or uuid4()
        self._changed = changed or threading.Event()
        self.signs: Mapping[int, Sign] = {}
        self._look_every_s = look_every_s
        self._look_at = 0.0
        self._url = url
        self._dead: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, daemon=True, name="demand"),
            threading.Thread(target=self._tell_of_the_dead, daemon=True, name="deaths"),
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._dead.put(None)

    def worker_died(self, pid: int) -> None:
        """Have the leases of this process expire now; tried until Postgres has heard it."""
        self._dead.put(pid)

    def _watch(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(psycopg.Error), connect(self._url, application_name="darkroom up") as conn:
                listen(conn, [ANY_QUEUE, WORKERS_CHANNEL, IDLE_CHANNEL, WARM_CHANNEL])
                self._forget_the_dead(conn)
                while not self._stopped.is_set():
                    self._look_at_workers(conn)
                    self._read(conn)
                    self._changed.set()
                    for _ in conn.notifies(timeout=POLL_S, stop_after=1):
                        self._stopped.wait(AT_MOST_EVERY_S)  # one count for all that come together
            self._stopped.wait(RECONNECT_AFTER_S)

    def _read(self, conn: Connection) -> None:
        hostname = socket.gethostname()
        states = read_states(conn, hostname)
        self.signed_in = frozenset(pid for pid, state in states.items() if state != "standby")
        self.ready = frozenset(pid for pid, state in states.items() if state in ("idle", "drawing"))
        self.idle = frozenset(pid for pid, state in states.items() if state == "idle")
        self.standing_by = frozenset(pid for pid, state in states.items() if state == "standby")
        self.elsewhere = workers_elsewhere(conn, host=self._host, hostname=hostname, pids=self.own_pids)
        self.bounds = read_bounds(conn, self._models)
        self.demand = waiting_by_model(conn)

    def _forget_the_dead(self, conn: Connection) -> None:
        """A supervisor that was killed could not tell of its workers: their rows would count as workers for a while."""
        for pid in read_states(conn, socket.gethostname()):
            if pid not in self.own_pids and not psutil.pid_exists(pid):
                expire_leases_of_process(conn, socket.gethostname(), pid)

    def _look_at_workers(self, conn: Connection) -> None:
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + self._look_every_s
        with contextlib.suppress(psycopg.Error):  # they can't write either; a lost connection is met by the next query
            self.signs = read_signs(conn, socket.gethostname())

    def _tell_of_the_dead(self) -> None:
        while (pid := self._dead.get()) is not None and not self._stopped.is_set():
            try:
                with connect(self._url, application_name="darkroom up") as conn:
                    expire_leases_of_process(conn, socket.gethostname(), pid)
            except psycopg.Error:
                self._dead.put(pid)
                self._stopped.wait(RECONNECT_AFTER_S)
