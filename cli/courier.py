"""`darkroom courier`: the role that is always on."""

from __future__ import annotations

import sys

import click


@click.command("courier")
def command() -> None:
    """Deliver webhooks, rescue what was lost, prune what is old."""
    from storage.settings import Settings
    from worker.courier.main import run_courier

    sys.exit(run_courier(Settings()))
