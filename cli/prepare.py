"""`darkroom prepare`: what has to exist before the roles start, made where it is missing."""

from __future__ import annotations

import click


@click.command("prepare")
def command() -> None:
    """Migrate the database and create the bucket. Running it again, or twice at once, is fine."""
    from storage.bucket import ensure_bucket
    from storage.migrate import upgrade
    from storage.settings import Settings

    settings = Settings()
    upgrade(settings)
    click.echo("The database is at this release's schema.")
    ensure_bucket(settings)
    click.echo(f"The bucket {settings.s3_bucket} is there and can be written.")
