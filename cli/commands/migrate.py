"""`darkroom migrate`: bring the database to the schema of this release."""

from __future__ import annotations

import click


@click.command("migrate")
@click.option("--to", "revision", metavar="REVISION", help="Go down to this revision; `base` drops every table.")
@click.option("--check", "only_check", is_flag=True, help="Change nothing; exit 2 unless the schema fits.")
def command(revision: str | None, only_check: bool) -> None:
    """Migrate the database to this release's schema."""
    if revision is not None and only_check:
        raise click.UsageError("--to and --check exclude each other")
    from storage.postgres import migrate, schema_revision
    from storage.settings import Settings

    settings = Settings()
    if only_check:
        schema_revision.check(settings)
        click.echo("The database is at this release's schema.")
    elif revision is not None:
        migrate.downgrade(settings, revision)
        click.echo(f"The database is at {revision}.")
    else:
        migrate.upgrade(settings)
        click.echo("The database is at this release's schema.")
