"""`darkroom worker`: from the settings to a process that serves one model, and its exit code."""

from __future__ import annotations

import logging
import os
from functools import partial

from storage import logs, tracing
from storage.catalog import Catalog, Model, load_catalog
from storage.errors import OperatorError, UnknownModel
from storage.postgres.pooler import wait_for_pooler
from storage.postgres.schema_revision import check
from worker.lifecycle import Stage
from worker.process import WorkerProcess
from worker.settings import WorkerSettings
from worker.standby import STAND_BY, WAKE_UP
from worker.stop_signals import StopSignals, leave_now


def run_worker(
    settings: WorkerSettings,
    *,
    model: str | None = None,
    idle_exit_s: float | None = None,
    drain: bool = False,
    host_decides: bool = False,
    signals: StopSignals | None = None,
) -> int:
    """Serve one model until SIGTERM, or until there was no work for `idle_exit_s`; returns the exit code.

    If the model is to be kept ready, it stays (`storage.workers.warm`), but not with `drain`.
    With `host_decides`, it stands by when it gets STAND_BY, and only then (`worker.standby`).
    `drain` draws what is waiting, then leaves (after `idle_exit_s`, if that is given too). A command that listens for
    `signals` already hands them over. Call it on the main thread.
    Raises OperatorError: no such model, no Postgres, a schema that this release can't work with.
    """
    if signals is None:
        signals = StopSignals()
        signals.listen()
    logs.configure("worker", log_format=settings.log_format, level=settings.log_level)
    chosen = choose_model(load_catalog(settings.models), model)
    check(settings)
    wait_for_pooler(settings)
    if drain and idle_exit_s is None:
        idle_exit_s = 0.0
    tracing.start(settings, "worker")
    process = WorkerProcess(settings, chosen, idle_exit_s=idle_exit_s, leaves_always=drain, host_decides=host_decides)
    signals.call(partial(_on_stop_signal, process))
    signals.call_at(STAND_BY, process.stand_by)
    signals.call_at(WAKE_UP, process.wake_up)
    code = process.run()
    tracing.stop()
    if process.hangs:
        logging.shutdown()
        os._exit(code)  # a thread waits for S3, and Python would wait for the thread
    return code


def choose_model(catalog: Catalog, name: str | None) -> Model:
    """The model that a worker serves. Raises OperatorError."""
    if name is None:
        if len(catalog.models) > 1:
            raise OperatorError(f"Several models are in the catalog; name one with --model: {catalog.names()}.")
        return next(iter(catalog.models.values()))
    try:
        return catalog.find(name)
    except UnknownModel as error:
        raise OperatorError(f"--model: {error}.") from None


def _on_stop_signal(process: WorkerProcess) -> None:
    if process.leave() is Stage.STARTING:
        leave_now(process.say_goodbye)
