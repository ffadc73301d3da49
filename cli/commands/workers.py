"""`darkroom workers`: who draws now; as a readiness probe, whether the worker of this host does."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import click

from cli.json_option import json_option
from cli.which_database import data_option, settings_for

# A worker signs in every 1.5 s; this long without one, it is not to be counted on.
FRESH_S = 15.0
READY_STATES = {"idle", "drawing", "standby"}


@click.command("workers")
@click.option(
    "--check",
    is_flag=True,
    help="List only this host's, and exit 1 unless one of them has its model loaded and lives: a readiness probe.",
)
@json_option
@data_option
def command(check: bool, as_json: bool, data: Path) -> None:
    """List the workers: model, host, process, device, state, and seconds since the last sign of life."""
    import psycopg

    from cli.client.tables import echo_json
    from storage.errors import OperatorError
    from storage.postgres.database import connect
    from storage.workers.registry import list_workers

    try:
        with connect(settings_for(data).database_url, application_name="darkroom workers") as conn:
            workers = list_workers(conn, hostname=socket.gethostname() if check else None)
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable) as error:
        raise OperatorError(f"The workers can't be listed: {str(error).partition(chr(10))[0]}.") from None
    if as_json:
        echo_json(workers)
    for worker in [] if as_json else workers:
        is_silent = worker["seen_s"] >= FRESH_S and worker["state"] != "failed"  # dead, frozen, or cut off
        state = "silent" if is_silent else worker["state"]
        click.echo(
            f"{worker['model']}  {worker['hostname']} {worker['pid']}  {worker['device'] or '-'}  {state}"
            f"  {worker['seen_s']:.0f} s" + (f"  {worker['error']}" if worker["error"] else "")
        )
    if check and not any(worker["state"] in READY_STATES and worker["seen_s"] < FRESH_S for worker in workers):
        sys.exit(1)
