"""`darkroom courier`: the role that is always on."""

from __future__ import annotations

import sys

import click


@click.command("courier")
def command() -> None:
    """Deliver webhooks, rescue what was lost, prune what is old."""
    from storage import logs
    from storage.migrate import check
    from storage.settings import Settings
    from worker.courier.main import run_courier

    settings = Settings()
    logs.configure("courier", log_format=settings.log_format, level=settings.log_level)
    check(settings)
    sys.exit(run_courier(settings))
