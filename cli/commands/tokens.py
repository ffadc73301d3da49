"""`darkroom tokens`: who may use the API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.which_database import data_option, settings_for
from storage.predictions.parameters import MAX_PRIORITY

if TYPE_CHECKING:
    from storage.postgres.database import Connection

NAME_CHARS = 100


@click.group("tokens")
def command() -> None:
    """Make, list, replace and revoke access tokens."""


@command.command("create")
@click.argument("name")
@click.option("--rate", "rate_per_minute", type=click.IntRange(min=0), help="Predictions a minute; 0: any number.")
@click.option("--max-queued", type=click.IntRange(min=0), help="Predictions that may wait; 0: any number.")
@click.option(
    "--max-priority",
    type=click.IntRange(0, MAX_PRIORITY),
    default=0,
    show_default=True,
    help="The highest `priority` that it may ask for.",
)
@data_option
def create(name: str, rate_per_minute: int | None, max_queued: int | None, max_priority: int, data: Path) -> None:
    """Make a token, and show it this once. NAME says what it is for.

    Without --rate and --max-queued, RATE_LIMIT_PER_MINUTE and MAX_QUEUED of the API hold.
    """
    from storage.access.tokens import create_token
    from storage.errors import OperatorError

    if not name.isprintable() or not 1 <= len(name) <= NAME_CHARS:
        raise OperatorError(f"A token's name has 1 to {NAME_CHARS} printable characters.")
    with _database(data) as conn:
        token = create_token(
            conn, name, rate_per_minute=rate_per_minute, max_queued=max_queued, max_priority=max_priority
        )
    _show_once(token)


@command.command("list")
@data_option
def list_(data: Path) -> None:
    """Show all tokens, the revoked ones too; never the tokens themselves."""
    from storage.access.tokens import list_tokens

    with _database(data) as conn:
        rows = list_tokens(conn)
    if not rows:
        click.echo(
            "There are no tokens: the API is open to everybody on its machine, and refuses to be reached by others."
        )
        return
    head = ("NAME", "TOKEN", "RATE", "QUEUED", "PRIORITY", "CREATED", "LAST USED", "STATE")
    lines = [
        (
            row["name"],
            row["shown"],
            _limit(row["rate_per_minute"], "/min"),
            _limit(row["max_queued"], ""),
            str(row["max_priority"]),
            _moment(row["created_at"]),
            _moment(row["last_used_at"]),
            "in use" if row["revoked_at"] is None else f"revoked {_moment(row['revoked_at'])}",
        )
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [head, *lines]) for column in range(len(head))]
    for line in [head, *lines]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


@command.command("revoke")
@click.argument("name")
@data_option
def revoke(name: str, data: Path) -> None:
    """Refuse a token from now on; within 3 seconds everywhere."""
    from storage.access.tokens import revoke_token

    with _database(data) as conn:
        revoke_token(conn, name)
    click.echo(f"{name} is revoked.")


@command.command("rotate")
@click.argument("name")
@data_option
def rotate(name: str, data: Path) -> None:
    """Replace a token by a new one, which sees the same predictions; the old one is refused."""
    from storage.access.tokens import rotate_token

    with _database(data) as conn:
        token = rotate_token(conn, name)
    _show_once(token)


@contextmanager
def _database(data: Path) -> Iterator[Connection]:
    """The operator's database, or the one of a `darkroom up` that runs on that folder. Raises OperatorError."""
    from storage.postgres.database import connect
    from storage.postgres.migrate import check

    settings = settings_for(data)
    check(settings)
    with connect(settings.direct_url, application_name="darkroom tokens") as conn:
        yield conn


def _show_once(token: str) -> None:
    """The token alone on stdout, so that a script can take it; the rest is for people."""
    click.echo("Keep it now: it is not stored and can't be shown again.", err=True)
    click.echo(token)


def _limit(value: int | None, unit: str) -> str:
    return "setting" if value is None else "any" if value == 0 else f"{value}{unit}"


def _moment(value: datetime | None) -> str:
    return "-" if value is None else value.strftime("%Y-%m-%d %H:%M")
