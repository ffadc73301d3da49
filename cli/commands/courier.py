"""`darkroom courier`: the role that is always on."""

from __future__ import annotations

import sys

import click


@click.command("courier")
def command() -> None:
    """Deliver webhooks, rescue what was lost, prune what is old."""
    from courier.main import run_courier
    from storage import logs
    from storage.postgres.database import connect
    from storage.postgres.pooler import wait_for_pooler
    from storage.postgres.schema_revision import check
    from storage.predictions.render import open_renderer
    from storage.settings import Settings

    settings = Settings()
    logs.configure("courier", log_format=settings.log_format, level=settings.log_level)
    check(settings)
    wait_for_pooler(settings)
    with connect(settings.database_url, application_name="darkroom courier") as conn:
        open_renderer(settings, conn)  # a wrong SECRET_KEY is told here, in one line
    sys.exit(run_courier(settings))
