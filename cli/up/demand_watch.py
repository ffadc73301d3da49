"""How much work waits, which workers live, and telling Postgres of those that died."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
import time
from collections.abc import Collection, Mapping

import psycopg

from cli.up.frozen_workers import LOOK_EVERY_S
from storage.postgres.database import Connection, connect
from storage.predictions.rescue import expire_leases_of_process
from storage.workers.demand import Demand, waiting_by_model
from storage.workers.registry import Sign, read_ready_pids, read_signs

POLL_S = 0.5
AT_MOST_EVERY_S = 0.05
RECONNECT_AFTER_S = 0.5
# Procrastinate tells on it of every job that is inserted, in any queue.
ANY_QUEUE = "procrastinate_any_queue_v1"


class DemandWatch:
    """`demand` is at most half a second old while Postgres answers, and stays as it was while it doesn't.

    The same holds for `ready`, the pids of the workers on this machine that have loaded their model. `signs`, the
    workers' signs of life by pid, is a new object every LOOK_EVERY_S.
    """

    def __init__(self, url: str, *, look_every_s: float = LOOK_EVERY_S) -> None:
        self.demand: Mapping[str, Demand] = {}
        self.ready: Collection[int] = ()
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
                conn.execute(f"LISTEN {ANY_QUEUE}")
                while not self._stopped.is_set():
                    self._look_at_workers(conn)
                    self.ready = read_ready_pids(conn, socket.gethostname())
                    self.demand = waiting_by_model(conn)
                    for _ in conn.notifies(timeout=POLL_S, stop_after=1):
                        self._stopped.wait(AT_MOST_EVERY_S)  # one count for all that come together
            self._stopped.wait(RECONNECT_AFTER_S)

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
