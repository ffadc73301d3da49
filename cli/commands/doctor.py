"""`darkroom doctor`: look at every part of a deployment and say what to do."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from cli.doctor.finding import Finding

COLOURS = {"ok": "green", "warning": "yellow", "broken": "red"}


@click.command("doctor")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(".darkroom"),
    show_default=True,
    help="The folder of a running `darkroom up`, where DATABASE_URL is not set.",
)
@click.option("--no-worker", is_flag=True, help="No worker runs on this machine: skip its device and the weights.")
@click.option(
    "--webhook",
    "webhook_host",
    metavar="HOST",
    help="Also try a webhook to this machine, which the courier reaches as HOST (127.0.0.1). A prediction is submitted,"
    " canceled and deleted for it; DARKROOM_TOKEN is used.",
)
@click.option("--json", "as_json", is_flag=True, help="Write the findings as JSON.")
def command(data: Path, no_worker: bool, webhook_host: str | None, as_json: bool) -> None:
    """Look at the settings, the database, the bucket, the models, the device, the courier and the API.

    It reads the settings from the environment, as every role does, or asks the `darkroom up` that runs on --data.
    It stores a small object and deletes it; without --webhook, nothing else changes. Exit code 1: something is broken.

    \b
    darkroom doctor --webhook 127.0.0.1
    set -a; . ./secrets.env; darkroom doctor --no-worker
    """
    from cli.client.tables import echo_json, plain

    findings = []
    for finding in _findings(data, has_worker=not no_worker, webhook_host=webhook_host):
        findings.append(finding)
        if not as_json:
            level = click.style(f"{finding.level:<7}", fg=COLOURS[finding.level])
            click.echo(f"{level}  {finding.part:<9} {plain(finding.text)}")
            if finding.remedy:
                click.echo(f"{'':19}→ {plain(finding.remedy)}")
    broken = sum(finding.level == "broken" for finding in findings)
    warnings = sum(finding.level == "warning" for finding in findings)
    if as_json:
        echo_json([asdict(finding) for finding in findings])
    else:
        click.echo(f"{broken} broken, {warnings} to look at, {len(findings) - broken - warnings} well.")
    sys.exit(1 if broken else 0)


def _findings(data: Path, *, has_worker: bool, webhook_host: str | None) -> Iterator[Finding]:
    from cli.client.server import Server
    from cli.doctor.bucket import check_bucket
    from cli.doctor.database import check_database
    from cli.doctor.models import check_models
    from cli.doctor.service import check_api, check_disk, check_secrets
    from cli.doctor.webhook import check_webhook
    from cli.supervision.data_folder import DataFolder
    from storage.errors import OperatorError

    folder = DataFolder(data)
    is_local = not os.environ.get("DATABASE_URL")
    if is_local:
        noted = folder.settings_in_use()
        if noted is None:
            raise OperatorError(
                f"No `darkroom up` runs on {data} and DATABASE_URL is not set: start it (or name its folder with"
                " --data), or set the settings of your deployment."
            )
        os.environ.update(noted)
    from pydantic import ValidationError

    from api.settings import ApiSettings
    from cli.up.settings_check import check_settings
    from worker.settings import WorkerSettings

    try:
        settings, worker = ApiSettings(), WorkerSettings()
    except ValidationError as error:
        yield _wrong_setting(error)
        return  # without them, nothing else can be looked at
    try:
        check_settings(os.environ, models=settings.models, host="127.0.0.1")
    except (ValidationError, OperatorError) as error:
        yield _wrong_setting(error)
    yield from check_secrets(settings)
    yield from check_database(settings)
    yield from check_bucket(settings)
    yield from check_models(settings.models, worker.device, has_worker=has_worker)
    yield from check_api(settings)
    if webhook_host is not None:
        yield check_webhook(Server(settings.public_url, os.environ.get("DARKROOM_TOKEN", "")), webhook_host)
    if is_local:
        yield from check_disk(folder.path)


def _wrong_setting(error: Exception) -> Finding:
    from cli.doctor.finding import broken
    from cli.error_line import error_line

    return broken("settings", error_line(error) or str(error), "correct it; docs/settings.md lists all of them")
