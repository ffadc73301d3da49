"""`darkroom prepare`: what has to exist before the roles start, made where it is missing."""

from __future__ import annotations

import click


@click.command("prepare")
def command() -> None:
    """Migrate the database and create the bucket. Running it again, or twice at once, is fine.

    A database that a newer release has migrated is left alone, as long as this one can run on it: pods of the old
    release may start again while the new one is rolled out, or after it was taken back.
    """
    from storage.errors import SchemaMismatch
    from storage.postgres.migrate import upgrade
    from storage.postgres.schema_revision import check
    from storage.s3.bucket import ensure_bucket
    from storage.settings import Settings

    settings = Settings()
    try:
        check(settings)
    except SchemaMismatch:
        upgrade(settings)
    click.echo("The database has a schema that this release can run on.")
    ensure_bucket(settings)
    click.echo(f"The bucket {settings.s3_bucket} is there and can be written.")
