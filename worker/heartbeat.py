"""What a worker reports about itself: in the table `workers`, in its log, and to clients waiting for its model."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID, uuid4

import psutil
import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.catalog import Model
from storage.postgres.database import Connection
from storage.predictions.progress import note_on_waiting
from storage.workers.load_failures import forget_failures_to_load, record_failure
from storage.workers.load_times import write_load_time
from storage.workers.registry import WorkerLoad, WorkerRow, WorkerState, forget_failures, say_alive, say_goodbye
from storage.workers.warm import leave_if_enough
from worker.cold_start import process_age_s

PATH = re.compile(r"(?<![\w.:/])(?:/[^/\s:'\"]+)*/(?=[^/\s])")

log = structlog.get_logger(__name__)


class Heartbeat:
    """This process's row in `workers`. If Postgres is unreachable, only `beat` raises."""

    def __init__(self, pool: ConnectionPool[Connection], model: str) -> None:
        self._pool = pool
        self._saying = threading.Lock()  # or a beat that is under way would write an older state after a newer one
        self._is_gone = False
        self._read_load: Callable[[], WorkerLoad] = WorkerLoad
        self._presence = WorkerRow(
            id=uuid4(), hostname=socket.gethostname(), pid=os.getpid(), model=model, state="loading"
        )

    @property
    def worker_id(self) -> UUID:
        return self._presence.id

    @property
    def state(self) -> WorkerState:
        return self._presence.state

    def note(self, state: WorkerState) -> None:
        """Change the state; the next beat writes it."""
        self._presence = replace(self._presence, state=state)

    def say(self, state: WorkerState, *, device: str | None = None, error: str | None = None) -> None:
        """Change the state and write it now; if Postgres is unreachable, the next beat writes it."""
        self._presence = replace(self._presence, state=state, error=error, device=device or self._presence.device)
        try:
            with self._pool.connection() as conn:
                self.beat(conn)
        except psycopg.OperationalError:
            pass

    def say_ready(self, device: str, *, version: str, joins_midway: bool) -> None:
        """Report that the model is loaded and how long it took, and remove what earlier failures to load it left."""
        since_start_s = process_age_s()
        self.say("idle", device=device)
        try:
            with self._pool.connection() as conn:
                write_load_time(
                    conn,
                    self.worker_id,
                    device=device,
                    version=version,
                    since_start_s=since_start_s,
                    joins_midway=joins_midway,
                )
                forget_failures(conn, self._presence.model, before=self.worker_id)
                forget_failures_to_load(conn, self._presence.model)
        except psycopg.OperationalError:
            pass  # rescue removes the rows in the end

    def watch(self, read_load: Callable[[], WorkerLoad]) -> None:
        """From now on each beat says what this returns. It is called on the thread that beats."""
        self._read_load = read_load

    def beat(self, conn: Connection) -> None:
        """Write the row again, on the caller's connection. Raises psycopg.Error."""
        with self._saying:
            if not self._is_gone:
                load = replace(self._read_load(), memory_bytes=psutil.Process().memory_info().rss)
                say_alive(conn, self._presence, load)

    def leave_if_enough(self, model: Model) -> bool:
        """Whether there are enough workers of the model without this one; then it counts as draining from now on.

        While Postgres is unreachable it stays.
        """
        with self._saying:  # or a beat would write that it is idle
            try:
                with self._pool.connection() as conn:
                    may_leave = leave_if_enough(conn, model, self.worker_id)
            except psycopg.OperationalError:
                return False
            if may_leave:
                self.note("draining")
            return may_leave

    def say_not_loaded(self, reason: str) -> None:
        """Report it in the log, in the table of workers, and in the `logs` of the predictions that wait for the model.

        It also counts as a failed try, after some of which those predictions fail (`storage.workers.load_failures`).
        Clients see only the last part of a path.
        """
        model = self._presence.model
        log.error("model.not_loaded", model=model, reason=reason)
        shown = PATH.sub(r"…/", reason)
        self._say_failed(reason, f"A worker could not load {model}: {shown}")
        try:
            with self._pool.connection() as conn:
                record_failure(conn, model, self.worker_id, shown)
        except psycopg.Error as error:
            log.warning("worker.failure_not_counted", reason=str(error).strip())

    def say_bucket_not_writable(self, reason: str) -> None:
        """Report it in the same places. Clients don't see where the bucket is."""
        model = self._presence.model
        log.error("bucket.not_writable", model=model, reason=reason)
        self._say_failed(reason, f"A worker for {model} could not start: it can't store pictures")

    def _say_failed(self, reason: str, note: str) -> None:
        self.say("failed", error=reason)
        try:
            with self._pool.connection() as conn:
                forget_failures(conn, self._presence.model, before=self.worker_id)
                note_on_waiting(conn, self._presence.model, note)
        except psycopg.Error as error:
            log.warning("worker.failure_not_noted", reason=str(error).strip())

    def say_goodbye(self, *, even_if_failed: bool = False) -> None:
        """Remove the row. If this worker failed, the row stays for people to see, and rescue removes it."""
        if self.state == "failed" and not even_if_failed:
            return
        with self._saying:
            self._is_gone = True
        try:
            with self._pool.connection() as conn:
                say_goodbye(conn, self._presence.id)
        except psycopg.OperationalError as error:
            log.warning("worker.not_taken_out", reason=str(error).strip())
