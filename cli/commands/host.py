"""`darkroom host`: this machine's GPUs for a service that runs elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cli.number_options import Number, WholeNumber
from cli.worker_options import worker_options


@click.command("host")
@click.option(
    "--workers",
    type=WholeNumber(min=1),
    help="GPU workers at the same time, at most; default: one for each GPU, or one without a GPU.",
)
@worker_options
@click.option(
    "--power-off",
    "power_off_s",
    type=Number(min=1),
    metavar="SECONDS",
    help="Turn this machine off after so long without a worker (systemctl poweroff); default: never.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(".darkroom-host"),
    show_default=True,
    help="Where it notes which processes it has started.",
)
def command(
    workers: int | None,
    idle_exit_s: float | None,
    switch_after_s: float,
    warm_parent: bool,
    power_off_s: float | None,
    data: Path,
) -> None:
    """Draw on this machine for a service elsewhere: start workers when predictions wait, and end them after.

    It needs DATABASE_URL, the S3 settings and the catalog of the service (MODELS), and no open port. Any number of
    hosts share the work. Ctrl-C or SIGTERM ends everything within 10 seconds: what was being drawn is handed back.
    """
    from cli.host.host import HostOptions
    from cli.host.service import HostService
    from worker.settings import WorkerSettings

    settings = WorkerSettings()
    options = HostOptions(
        workers=workers,
        idle_exit_s=idle_exit_s,
        switch_after_s=switch_after_s,
        warm_parent=warm_parent and settings.warm_parent,
        standby_after_s=settings.standby_after_s,
        standby_workers=settings.standby_workers,
    )
    sys.exit(HostService(data.expanduser(), options, power_off_s=power_off_s).run())
