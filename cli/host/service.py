"""What `darkroom host` runs: workers on this machine for a service whose Postgres and bucket are elsewhere."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import psycopg

from cli.host.host import Host, HostOptions
from cli.host.power_off import PowerOff
from cli.supervision.data_folder import DataFolder
from cli.supervision.interrupts import Interrupted, StopRequest, give_way_to
from cli.supervision.launch import for_children
from cli.supervision.log_stream import LogStream
from cli.supervision.stale_processes import ProcessRecord
from cli.supervision.stopping import end_children
from storage.backoff import Backoff
from storage.catalog import load_catalog
from storage.postgres.database import connect
from storage.postgres.schema_revision import check
from worker.settings import WorkerSettings

TICK_S = 0.05
TRY_AGAIN_AFTER_S = 1.0
TRY_AGAIN_AFTER_AT_MOST_S = 30.0


class HostService:
    """One run, from the first check to the last process gone."""

    def __init__(self, folder: Path, options: HostOptions, *, power_off_s: float | None) -> None:
        self._folder = DataFolder(folder)
        self._options = options
        self._power_off_s = power_off_s
        self._stop = StopRequest()
        self._log = LogStream()
        self._record = ProcessRecord(self._folder.run)
        self._host: Host | None = None

    def run(self) -> int:
        """Returns the exit code. Raises OperatorError, with everything stopped, for what the operator can mend."""
        self._stop.install()
        settings = WorkerSettings()
        catalog = load_catalog(settings.models)
        power_off = None if self._power_off_s is None else PowerOff(self._power_off_s, self._log)
        self._folder.open()
        try:
            for role in self._record.end_leftovers():
                self._log.from_role("host", f"ended the {role} process that an earlier run left behind")
            self._wait_for_postgres(settings)
            env = for_children({**os.environ, "MODELS": str(settings.models.resolve())})
            host = self._host = Host(env, settings, catalog, self._options, self._record, self._log, name="host")
            host.start()
            host.start_warm_parent()
            places = f"{host.limit} place{'s' if host.limit > 1 else ''} for workers"
            self._log.line(f"Darkroom host: {places}, which draw here for {catalog.names()} when predictions wait")
            while not self._stop.is_set():
                host.tick()
                if power_off is not None:
                    power_off.tick(is_idle=host.is_idle)
                host.changed.wait(TICK_S)
        except Interrupted:
            pass
        finally:
            self._end()
        return 0

    def _wait_for_postgres(self, settings: WorkerSettings) -> None:
        """Return when Postgres answers with a schema that this release can work with.

        A machine that starts with its network not up yet waits, however long that takes. A schema that doesn't fit
        raises OperatorError, as for every role.
        """
        backoff = Backoff(TRY_AGAIN_AFTER_S, at_most_s=TRY_AGAIN_AFTER_AT_MOST_S)
        while (reason := give_way_to(self._stop, partial(_why_not_reached, settings))) is not None:
            wait_s = backoff.next_s()
            self._log.from_role("host", f"Postgres can't be reached, trying again in {wait_s:.0f} s: {reason}")
            try_at = time.monotonic() + wait_s
            while time.monotonic() < try_at:
                self._stop.raise_if_set()
                time.sleep(TICK_S)
        give_way_to(self._stop, partial(check, settings))

    def _end(self) -> None:
        try:
            if self._host is not None:
                for child in end_children(self._host.stop(), self._stop):
                    self._log.from_role("host", f"{child.role} had to be killed: it didn't stop in time")
        finally:
            self._log.flush()
            self._folder.close(unused=self._host is None)


def _why_not_reached(settings: WorkerSettings) -> str | None:
    try:
        with connect(settings.direct_url, application_name="darkroom host"):
            return None
    except psycopg.OperationalError as error:
        return str(error).strip().partition("\n")[0]
