"""`darkroom courier`: the role that is always on."""

from __future__ import annotations

import sys

import click


@click.command("courier")
def command() -> None:
    """Deliver webhooks, rescue what was lost, prune what is old."""
    from storage import logs
    from storage.database import connect
    from storage.migrate import check
    from storage.settings import Settings
    from storage.wire import open_wire
    from worker.courier.main import run_courier

    settings = Settings()
    logs.configure("courier", log_format=settings.log_format, level=settings.log_level)
    check(settings)
    with connect(settings.database_url, application_name="darkroom courier") as conn:
        open_wire(settings, conn)  # a wrong SECRET_KEY is told here, in one line
    sys.exit(run_courier(settings))
