"""`darkroom up`: everything on this machine, with one command."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from cli.number_options import WholeNumber
from cli.worker_options import worker_options


@click.command("up")
@click.option("--port", type=WholeNumber(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--host", default="127.0.0.1", show_default=True, help="One that others can reach needs a token.")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(".darkroom"),
    show_default=True,
    help="Where the database, the images and the keys are kept.",
)
@click.option(
    "--models",
    type=click.Path(path_type=Path),
    help="The catalog; default: models.toml here, else the one that Darkroom brings.",
)
@click.option(
    "--workers", type=WholeNumber(min=1), default=1, show_default=True, help="GPU workers at the same time, at most."
)
@worker_options
def command(
    port: int,
    host: str,
    data: Path,
    models: Path | None,
    workers: int,
    idle_exit_s: float | None,
    switch_after_s: float,
    warm_parent: bool,
) -> None:
    """Run the whole service here: Postgres, S3, API, courier, and GPU workers while there is work.

    DATABASE_URL and S3_ENDPOINT_URL, where set, replace the servers that it would start itself. Ctrl-C or SIGTERM
    ends everything within 10 seconds, with exit code 0; 130 or 143 if it was not ready yet.
    """
    from cli.up.service import Options, WholeService

    # make passes a ~ on as it is.
    data, models = data.expanduser(), models.expanduser() if models else None
    options = Options(
        port=port,
        host=host,
        data=data,
        models=models,
        workers=workers,
        idle_exit_s=idle_exit_s,
        switch_after_s=switch_after_s,
        warm_parent=warm_parent,
    )
    sys.exit(WholeService(options).run())
