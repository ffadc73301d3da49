"""`darkroom tokens`: who may use the API."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.json_option import json_option
from cli.number_options import WholeNumber
from cli.scope_options import SCOPES
from cli.which_database import data_option, settings_for
from storage.access.scopes import DEFAULT, Scope, show_scopes
from storage.predictions.parameters import MAX_PRIORITY

if TYPE_CHECKING:
    from storage.postgres.database import Connection, Row
    from storage.settings import Settings

NAME_CHARS = 100
SHARED = "shared"

# A webhook is sent for at most 4 days, and a prediction waits a day for its worker, if no other deadline is set.
BOTH_SIGN_FOR = timedelta(days=7)

# An API process lets a revoked token in for 3 s at most, and a request that it let in may take a moment to submit.
FORGOTTEN_AFTER_S = 4.0


@click.group("tokens")
def command() -> None:
    """Make, list, change, replace and revoke access tokens."""


@command.command("create")
@click.argument("name")
@click.option("--rate", "rate_per_minute", type=WholeNumber(min=0), help="Predictions a minute; 0: any number.")
@click.option("--max-queued", type=WholeNumber(min=0), help="Predictions that may wait; 0: any number.")
@click.option("--max-images", type=WholeNumber(min=0), help="Images of one prediction; 0: as many as the model draws.")
@click.option(
    "--max-priority",
    type=WholeNumber(0, MAX_PRIORITY),
    default=0,
    show_default=True,
    help="The highest `priority` that it may ask for.",
)
@click.option(
    "--scopes",
    type=SCOPES,
    default=show_scopes(DEFAULT),
    show_default=True,
    help="What it may do: some of draw, read, metrics, admin, separated by commas.",
)
@data_option
def create(
    name: str,
    rate_per_minute: int | None,
    max_queued: int | None,
    max_images: int | None,
    max_priority: int,
    scopes: frozenset[Scope],
    data: Path,
) -> None:
    """Make a token, and show it this once. NAME says what it is for.

    Without --rate, --max-queued and --max-images, the API's RATE_LIMIT_PER_MINUTE, MAX_QUEUED and MAX_IMAGES apply.
    """
    from storage.access.sealing import open_sealer
    from storage.access.tokens import create_token
    from storage.errors import OperatorError

    if not name.isprintable() or not 1 <= len(name) <= NAME_CHARS:
        raise OperatorError(f"A token's name has 1 to {NAME_CHARS} printable characters.")
    with _database(data) as (settings, conn):
        token = create_token(
            conn,
            name,
            rate_per_minute=rate_per_minute,
            max_queued=max_queued,
            max_images=max_images,
            max_priority=max_priority,
            scopes=scopes,
            sealer=open_sealer(settings),
        )
    _show_once(token)


@command.command("list")
@json_option
@data_option
def list_(as_json: bool, data: Path) -> None:
    """Show all tokens, the revoked ones too; never the tokens themselves."""
    from cli.client.tables import echo_json
    from storage.access.tokens import list_tokens

    with _database(data) as (_, conn):
        rows = list_tokens(conn)
    if as_json:
        echo_json(rows)
        return
    if not rows:
        click.echo(
            "There are no tokens: the API is open to everybody on its machine, and refuses to be reached by others."
        )
        return
    head = (
        "NAME",
        "TOKEN",
        "SCOPES",
        "RATE",
        "QUEUED",
        "IMAGES",
        "PRIORITY",
        "CREATED",
        "LAST USED",
        "WEBHOOK SECRET",
        "STATE",
    )
    lines = [
        (
            row["name"],
            row["shown"],
            show_scopes(map(Scope, row["scopes"])),
            _limit(row["rate_per_minute"], "/min"),
            _limit(row["max_queued"], ""),
            _limit(row["max_images"], ""),
            str(row["max_priority"]),
            _moment(row["created_at"]),
            _moment(row["last_used_at"]),
            _webhook_secret(row),
            "in use" if row["revoked_at"] is None else f"revoked {_moment(row['revoked_at'])}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    for line in [head, *lines]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())
    sharing = [row["name"] for row in rows if row["revoked_at"] is None and _webhook_secret(row) == SHARED]
    if sharing:
        click.echo(
            f"{len(sharing)} of them sign webhooks with the deployment's secret, which each of them can read. To give"
            f" one its own: darkroom webhooks rotate-secret --token {shlex.quote(sharing[0])}",
            err=True,
        )
    broad = [
        row["name"]
        for row in rows
        if row["revoked_at"] is None and "metrics" in row["scopes"] and "draw" in row["scopes"]
    ]
    if broad:
        click.echo(
            f"{len(broad)} of them may draw and also read the metrics of the whole deployment, as tokens from before"
            f" scopes do. To narrow one: darkroom tokens set-scopes {shlex.quote(broad[0])} {show_scopes(DEFAULT)}",
            err=True,
        )


@command.command("set-scopes")
@click.argument("name")
@click.argument("scopes", type=SCOPES)
@data_option
def set_scopes(name: str, scopes: frozenset[Scope], data: Path) -> None:
    """Let a token do this from now on, and nothing else: SCOPES are some of draw, read, metrics, admin.

    \b
    draw     create, cancel, keep and delete predictions, replay their webhooks
    read     read its own predictions, events, webhook deliveries and usage, and the models
    metrics  /metrics
    admin    all of it, and the status, usage and webhook deliveries of the whole deployment

    Within 3 seconds every API process refuses what the token may no longer do, and ends its open streams of that kind.
    """
    from storage.access import tokens

    with _database(data) as (_, conn):
        before = tokens.set_scopes(conn, name, scopes)
    click.echo(f"{name} has {show_scopes(scopes)} (before: {show_scopes(before)}).")


@command.command("adopt")
@click.argument("name")
@data_option
def adopt(name: str, data: Path) -> None:
    """Give a token the predictions that were made while the API needed no token.

    They stay valid, with their images, links and webhooks. For 7 days the deployment's secret signs the token's
    webhooks too, because the receivers know that one.
    """
    from storage.access.adopt import adopt_predictions
    from storage.access.tokens import id_of_token

    with _database(data) as (_, conn):
        adopted = sum(adopt_predictions(conn, id_of_token(conn, name), overlap=BOTH_SIGN_FOR))
    click.echo(f"{name} has got {adopted} predictions.")


@command.command("revoke")
@click.argument("name")
@click.option("--cancel", is_flag=True, help="Also cancel its predictions that wait or are being drawn.")
@data_option
def revoke(name: str, cancel: bool, data: Path) -> None:
    """Refuse a token from now on; within 3 seconds everywhere.

    What it has submitted is drawn, and its webhooks are sent, unless you say --cancel. Canceled predictions send
    their `completed` webhook, as after any cancel.
    """
    from storage.access.tokens import count_unfinished, revoke_token

    with _database(data) as (settings, conn):
        token_id = revoke_token(conn, name)
        if cancel:
            canceled = _cancel_all(settings, conn, token_id)
            click.echo(f"{name} is revoked; {canceled} of its predictions were canceled.")
            return
        unfinished = count_unfinished(conn, token_id)
    click.echo(f"{name} is revoked.")
    if unfinished["waiting"] or unfinished["drawing"]:
        click.echo(
            f"{unfinished['waiting']} of its predictions wait and {unfinished['drawing']} are being drawn. They go on."
            f" To cancel them: darkroom tokens revoke --cancel {shlex.quote(name)}",
            err=True,
        )


def _cancel_all(settings: Settings, conn: Connection, token_id: int) -> int:
    """Also those that are submitted while an API process still remembers the token."""
    import time

    from storage.access.revoke import cancel_unfinished
    from storage.predictions.render import open_renderer

    renderer = open_renderer(settings, conn)
    canceled = cancel_unfinished(conn, renderer, token_id)
    click.echo(f"Waiting {FORGOTTEN_AFTER_S:g} s until every API process refuses it.", err=True)
    time.sleep(FORGOTTEN_AFTER_S)
    return canceled + cancel_unfinished(conn, renderer, token_id)


@command.command("rotate")
@click.argument("name")
@data_option
def rotate(name: str, data: Path) -> None:
    """Replace a token by a new one, which sees the same predictions; the old one is refused.

    The secret that signs its webhooks stays: `darkroom webhooks rotate-secret --token NAME` replaces that one.
    """
    from storage.access.tokens import rotate_token

    with _database(data) as (_, conn):
        token = rotate_token(conn, name)
    _show_once(token)


@contextmanager
def _database(data: Path) -> Iterator[tuple[Settings, Connection]]:
    """The operator's database, or the one of a `darkroom up` that runs on that folder. Raises OperatorError."""
    from storage.postgres.database import connect
    from storage.postgres.schema_revision import check

    settings = settings_for(data)
    check(settings)
    with connect(settings.direct_url, application_name="darkroom tokens") as conn:
        yield settings, conn


def _show_once(token: str) -> None:
    """The token alone on stdout, so that a script can take it; the rest is for people."""
    click.echo("Keep it now: it is not stored and can't be shown again.", err=True)
    click.echo(token)


def _webhook_secret(row: Row) -> str:
    """Which secret signs: its own, the deployment's, or both during the overlap of its first rotation."""
    if not row["signs_with_shared_secret"]:
        return "own"
    return "own and shared" if row["has_own_secret"] else SHARED


def _limit(value: int | None, unit: str) -> str:
    return "setting" if value is None else "any" if value == 0 else f"{value}{unit}"


def _moment(value: datetime | None) -> str:
    return "-" if value is None else value.strftime("%Y-%m-%d %H:%M")
