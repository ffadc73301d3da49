"""`darkroom webhooks`: see what became of deliveries, send some again, rotate the secret that signs them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.json_option import json_option
from cli.number_options import WholeNumber
from cli.which_database import data_option, settings_for
from storage.webhooks import states

if TYPE_CHECKING:
    from storage.postgres.database import Connection
    from storage.settings import Settings

MOST_AT_ONCE = 100_000
MAX_OVERLAP = timedelta(days=30)
UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def _duration(ctx: click.Context, param: click.Parameter, value: str) -> timedelta:
    match = re.fullmatch(r"(\d{1,6})([smhd])", value)
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration such as 90s, 30m, 24h or 7d")
    return timedelta(seconds=int(match[1]) * UNITS_S[match[2]])


@click.group("webhooks")
def command() -> None:
    """Deliveries and the secret that signs them."""


@command.command("list")
@click.option("--status", type=click.Choice(states.ALL))
@click.option("--prediction", "prediction_id", metavar="ID", help="Only those of one prediction.")
@click.option("--limit", type=WholeNumber(1, 10_000), default=50, show_default=True)
@json_option
@data_option
def list_(status: str | None, prediction_id: str | None, limit: int, as_json: bool, data: Path) -> None:
    """The newest deliveries, and what became of them."""
    from cli.client.tables import echo_json
    from storage.predictions.render import timestamp
    from storage.webhooks.history import read_deliveries, show

    with _database(data) as (_, conn):
        rows = read_deliveries(conn, limit=limit, status=status, prediction_id=prediction_id)
    if as_json:
        echo_json([show(row, to_token=False) for row in rows])
        return
    for row in rows:
        last = row["last_error"] or (f"HTTP {row['last_status']}" if row["last_status"] else "")
        click.echo(
            f"{row['id']}  {row['status']:<9}  {row['event']:<9}  {row['attempts']:>2} attempts"
            f"  {timestamp(row['created_at'])}  {row['prediction_id']}  {last}".rstrip()
        )
    if not rows:
        click.echo("No delivery.", err=True)


@command.command("replay")
@click.argument("delivery_ids", nargs=-1, metavar="[ID]…")
@click.option("--failed", is_flag=True, help="All `completed` events that were given up; others are old news.")
@data_option
def replay_(delivery_ids: tuple[str, ...], failed: bool, data: Path) -> None:
    """Send deliveries again, with the same webhook-id and the same body."""
    from storage.errors import OperatorError
    from storage.webhooks.events import DURABLE
    from storage.webhooks.history import read_deliveries, replay

    if bool(delivery_ids) == failed:
        raise click.UsageError("name deliveries, or say --failed")
    count = 0
    with _database(data) as (_, conn):
        if failed:
            # All of them before the first is sent: one that fails again at once is not taken twice.
            # Of those that tell how a prediction ended: a `start` after it would take the receiver back.
            rows = read_deliveries(conn, limit=MOST_AT_ONCE, status="failed", events=DURABLE)
            given_up = [row["id"] for row in rows]
            count += sum(replay(conn, delivery_id) is not None for delivery_id in given_up)
        for delivery_id in delivery_ids:
            if replay(conn, delivery_id) is None:
                raise OperatorError(
                    f"{delivery_id} can't be replayed: there is no such delivery, or a later event replaced it"
                    f" ({count} before it will be sent)."
                )
            count += 1
    click.echo(f"{count} will be sent again.")


@command.command("rotate-secret")
@click.option(
    "--overlap",
    callback=_duration,
    default="24h",
    metavar="DURATION",
    show_default=True,
    help="So long the old secret signs beside the new one: time to teach the receivers. 0s: it is known to others.",
)
@click.option("--token", "token_name", metavar="NAME", help="The secret of this token. Default: the deployment's.")
@data_option
def rotate_secret(overlap: timedelta, token_name: str | None, data: Path) -> None:
    """Make a new webhook secret, and print it. With --overlap 0s it is the only one that signs from now on.

    Each token signs its webhooks with a secret of its own. The deployment's signs where the API needs no token, and for
    tokens that are older than this: `darkroom tokens list` shows them, --token gives one a secret of its own.
    """
    from storage.access.sealing import open_sealer
    from storage.access.signing_keys import ensure_keys, rotate_webhook_secret, rotate_webhook_secret_of_token
    from storage.access.tokens import id_of_token

    if overlap > MAX_OVERLAP:
        raise click.BadParameter(f"more than {MAX_OVERLAP.days}d", param_hint="--overlap")
    with _database(data) as (settings, conn):
        sealer = open_sealer(settings)
        ensure_keys(conn, sealer)
        if token_name is None:
            secret = rotate_webhook_secret(conn, sealer, overlap=overlap)
        else:
            token_id = id_of_token(conn, token_name)
            secret = rotate_webhook_secret_of_token(conn, sealer, token_id, overlap=overlap)
    signs = f"Both secrets sign for {overlap}" if overlap else "Only the new secret signs from now on"
    click.echo(f"{signs}; give the receivers the new one:", err=True)
    click.echo(secret)


@contextmanager
def _database(data: Path) -> Iterator[tuple[Settings, Connection]]:
    from storage.postgres.database import connect
    from storage.postgres.schema_revision import check

    settings = settings_for(data)
    check(settings)
    with connect(settings.database_url, application_name="darkroom webhooks") as conn:
        yield settings, conn
