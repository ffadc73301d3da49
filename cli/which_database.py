"""The database that an operator's command means: DATABASE_URL's, or that of a `darkroom up` on this machine."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from storage.settings import Settings

data_option = click.option(
    "--data",
    type=click.Path(path_type=Path),
    default=Path(".darkroom"),
    show_default=True,
    help="The folder of a running `darkroom up`, where DATABASE_URL is not set.",
)


def settings_for(data: Path) -> Settings:
    """The settings of the environment, or those of a `darkroom up` that runs on that folder. Raises OperatorError."""
    import psycopg

    from cli.embedded import EmbeddedPostgres
    from cli.supervision.data_folder import DataFolder
    from storage.errors import OperatorError
    from storage.postgres.database import connect
    from storage.settings import Settings

    if os.environ.get("DATABASE_URL"):
        return Settings()
    folder = DataFolder(data)
    url = folder.database_in_use() or EmbeddedPostgres(folder.postgres).url
    try:
        connect(url, application_name="darkroom").close()
    except psycopg.OperationalError:
        raise OperatorError(
            f"No `darkroom up` runs on {data} and DATABASE_URL is not set: start it (or name its folder with"
            " --data), or set DATABASE_URL."
        ) from None
    if os.environ.get("SECRET_KEY"):
        return Settings(database_url=url, database_direct_url="")
    return Settings.model_validate({"database_url": url, "database_direct_url": "", "secret_key": folder.secret_key()})
