"""Step costs that outlive the worker that learned them."""

from __future__ import annotations

import time

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.catalog import Model
from storage.postgres.database import Connection
from storage.workers.step_costs import read_step_costs, write_step_costs
from worker.batching.step_costs import StepCosts

log = structlog.get_logger(__name__)

KEEP_EVERY_S = 30.0


class SavedStepCosts:
    """The costs of one model on one device, as known in the database; what is learned here is written back."""

    def __init__(self, pool: ConnectionPool[Connection], model: Model, *, device: str) -> None:
        self._pool = pool
        self._model = model
        self._device = device
        self._kept_at = time.monotonic()
        self.costs = self._read()

    def keep_now_and_then(self) -> None:
        """The same as `keep`, where the last time was a while ago."""
        if time.monotonic() - self._kept_at >= KEEP_EVERY_S:
            self.keep()

    def keep(self) -> None:
        """Write what was learned since the last time. Where Postgres is away, others learn it themselves."""
        self._kept_at = time.monotonic()
        changes = self.costs.take_changes()
        if not changes:
            return
        try:
            with self._pool.connection() as conn:
                write_step_costs(
                    conn, changes, device=self._device, model=self._model.name, version=self._model.version
                )
        except psycopg.Error as error:
            log.warning("worker.costs_not_kept", reason=str(error).strip())

    def _read(self) -> StepCosts:
        try:
            with self._pool.connection() as conn:
                known = read_step_costs(conn, device=self._device, model=self._model.name, version=self._model.version)
        except psycopg.OperationalError:
            known = []  # it learns them again
        return StepCosts(known)
