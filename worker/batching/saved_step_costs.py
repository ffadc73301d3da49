"""Step costs in the database, so that a new worker starts with what earlier ones learned."""

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

SAVE_EVERY_S = 30.0
# The first costs are saved sooner: estimates of the queue need them.
SAVE_FIRST_AFTER_S = 2.0


class SavedStepCosts:
    """The costs of one model on one device: read at the start, and what is learned since is written back."""

    def __init__(self, pool: ConnectionPool[Connection], model: Model, *, device: str) -> None:
        self._pool = pool
        self._model = model
        self._device = device
        self._saved_at = time.monotonic() - SAVE_EVERY_S + SAVE_FIRST_AFTER_S
        self.costs = self._read()

    def save_if_due(self) -> None:
        """`save`, but at most every SAVE_EVERY_S."""
        if time.monotonic() - self._saved_at >= SAVE_EVERY_S:
            self.save()

    def save(self) -> None:
        """Write what was learned since the last time. If Postgres is unreachable, it is lost: others learn it again."""
        changes = self.costs.take_changes()
        if not changes:
            return
        self._saved_at = time.monotonic()
        try:
            with self._pool.connection() as conn:
                write_step_costs(
                    conn, changes, device=self._device, model=self._model.name, version=self._model.version
                )
        except psycopg.Error as error:
            log.warning("worker.costs_not_saved", reason=str(error).strip())

    def _read(self) -> StepCosts:
        try:
            with self._pool.connection() as conn:
                known = read_step_costs(conn, device=self._device, model=self._model.name, version=self._model.version)
        except psycopg.OperationalError:
            known = []  # we learn them again
        return StepCosts(known)
