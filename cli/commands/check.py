"""`darkroom check`: whether the database and the bucket belong together, above all after a restore."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.json_option import json_option
from cli.which_database import data_option

if TYPE_CHECKING:
    from storage.settings import Settings

SHOWN = 20  # keys; --json has all


@click.command("check")
@click.option("--repair", is_flag=True, help="Mark lost objects as lost, and those that are there again as found.")
@json_option
@data_option
def command(repair: bool, as_json: bool, data: Path) -> None:
    """Compare the database with the bucket: rows without their object, and objects without a row.

    Run it after a restore; it may run while the service works. Without --repair it changes nothing. Exit code 1: an
    object is lost, and not marked as such yet.
    """
    import psycopg

    from cli.client.tables import echo_json
    from storage.errors import OperatorError
    from storage.postgres.database import connect
    from storage.s3.bucket import Bucket, BucketUnavailable
    from storage.s3.bucket_check import check_bucket
    from storage.s3.bucket_check import repair as repair_rows

    settings = _settings(data)
    try:
        with connect(settings.direct_url, application_name="darkroom check") as conn:
            report = check_bucket(conn, Bucket(settings), s3_prefix=settings.s3_prefix)
            if repair:
                repair_rows(conn, report)
    except (psycopg.OperationalError, psycopg.errors.UndefinedTable, BucketUnavailable) as error:
        raise OperatorError(f"The check broke off: {str(error).partition(chr(10))[0]}.") from None
    if as_json:
        echo_json(asdict(report))
    else:
        click.echo(f"{report.rows} objects in the database, {report.objects} in the bucket.")
        _say(
            report.lost,
            "are missing from the bucket",
            "marked as lost: their URLs answer 410" if repair else "copy them back, or run `darkroom check --repair`",
        )
        _say(
            report.found,
            "were marked as lost and can be read again",
            "the mark is removed" if repair else "run `darkroom check --repair`",
        )
        if report.unknown:
            click.echo(
                f"{report.unknown} objects that no row names: newer than the dump, or left over by a worker that died."
                " Retention removes them (RETENTION_S)."
            )
        if not (report.lost or report.found or report.unknown):
            click.echo("They belong together.")
    sys.exit(1 if report.lost and not repair else 0)


def _say(keys: list[str], what: str, done: str) -> None:
    if not keys:
        return
    click.echo(f"{len(keys)} {what} ({done}):")
    for key in keys[:SHOWN]:
        click.echo(f"  {key}")
    if len(keys) > SHOWN:
        click.echo(f"  … {len(keys) - SHOWN} more; --json lists all")


def _settings(data: Path) -> Settings:
    """Those of the environment, or of the `darkroom up` that runs on the folder. Raises OperatorError."""
    from cli.supervision.data_folder import DataFolder
    from storage.errors import OperatorError
    from storage.settings import Settings

    if not os.environ.get("DATABASE_URL"):
        noted = DataFolder(data).settings_in_use()
        if noted is None:
            raise OperatorError(
                f"No `darkroom up` runs on {data} and DATABASE_URL is not set: start it (or name its folder with"
                " --data), or set the settings of your deployment."
            )
        os.environ.update(noted)
    return Settings()
