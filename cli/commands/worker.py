"""`darkroom worker`: one process that draws for one model."""

from __future__ import annotations

import atexit
import os
import sys
from contextlib import suppress
from typing import NoReturn

import click

from cli.number_options import Number


@click.command("worker")
@click.option("--model", help="The model to serve; not needed where the catalog has only one.")
@click.option(
    "--idle-exit",
    "idle_exit_s",
    type=Number(min=0),
    metavar="SECONDS",
    help="End after so long without work; default: never.",
)
@click.option("--drain", is_flag=True, help="Draw what waits, then end.")
@click.option("--host-decides", is_flag=True, hidden=True, help="When it stands by: `darkroom host` tells it.")
def command(model: str | None, idle_exit_s: float | None, drain: bool, host_decides: bool) -> None:
    """Draw: claim predictions of one model, upload the images, commit."""
    from worker.stop_signals import StopSignals

    signals = StopSignals()
    signals.listen()  # first of all: a worker that is told to stop while Python imports the rest exits with 0 too
    from worker.main import run_worker
    from worker.settings import WorkerSettings

    _end(
        run_worker(
            WorkerSettings(),
            model=model,
            idle_exit_s=idle_exit_s,
            drain=drain,
            host_decides=host_decides,
            signals=signals,
        )
    )


def _end(code: int) -> NoReturn:
    """Exit at once. Nothing is held any more, and an ordinary exit would spend up to 3 s on taking torch apart."""
    atexit._run_exitfuncs()
    with suppress(OSError):  # the reader of our lines is gone
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
