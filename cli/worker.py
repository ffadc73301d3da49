"""`darkroom worker`: one process that draws for one model."""

from __future__ import annotations

import sys

import click


@click.command("worker")
@click.option("--model", help="The model to serve; not needed where the catalog has only one.")
@click.option(
    "--idle-exit",
    "idle_exit_s",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    help="End after so long without work; default: never.",
)
@click.option("--drain", is_flag=True, help="Draw what waits, then end.")
def command(model: str | None, idle_exit_s: float | None, drain: bool) -> None:
    """Draw: claim predictions of one model, upload the images, commit."""
    from worker.main import run_worker
    from worker.settings import WorkerSettings

    sys.exit(run_worker(WorkerSettings(), model=model, idle_exit_s=idle_exit_s, drain=drain))
