"""Whether the database has the schema that this code works with. Every process asks this when it starts.

Without Alembic and SQLAlchemy, which `storage.postgres.migrate` needs: importing them takes half a second.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path

import psycopg

import migrations
from storage.errors import OperatorError, SchemaMismatch
from storage.postgres.database import Connection, connect
from storage.postgres.own_schema import has_table, require_own_tables, require_utf8
from storage.settings import Settings


@cache
def known_revisions() -> tuple[str, ...]:
    """The revisions of this release, oldest first: the numbers before the names of their files."""
    files = (Path(migrations.__file__).parent / "versions").glob("[0-9]*_*.py")
    return tuple(sorted(file.name.partition("_")[0] for file in files))


def head() -> str:
    """The revision that this release needs."""
    return known_revisions()[-1]


def check(settings: Settings) -> None:
    """Raise SchemaMismatch unless the database is at this code's revision, or OperatorError if unreachable.

    A newer database is accepted when its revisions only expanded what this code knows: a release N runs on the
    schema of N+1 while that is being rolled out. Such a database says so in `darkroom_compatible_with`.
    """
    try:
        with connect(settings.direct_url, application_name="darkroom check") as conn:
            require_utf8(conn)
            require_own_tables(conn)
            _require_served(conn, _current(conn))
    except psycopg.OperationalError as error:
        raise unreachable(error) from None


def newer(current: str) -> SchemaMismatch:
    """The error for a database whose revision this release doesn't know."""
    return SchemaMismatch(
        f"The database is at revision {current}, which this release (at {head()}) does not know: "
        "it was migrated by a newer Darkroom. Run that release, or restore a backup."
    )


def unreachable(error: BaseException) -> OperatorError:
    return OperatorError(
        f"Postgres can't be reached: {first_line(error)}. Is DATABASE_URL right, and Postgres running?"
    )


def first_line(error: BaseException) -> str:
    return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__


def _require_served(conn: Connection, current: str | None) -> None:
    if current == head():
        return
    if current is None:
        raise SchemaMismatch("The database has no Darkroom schema yet: run `darkroom migrate`.")
    if current in known_revisions():
        raise SchemaMismatch(
            f"The database is at revision {current}, this release needs {head()}: run `darkroom migrate`."
        )
    if not _serves(conn):
        raise newer(current)


def _current(conn: Connection) -> str | None:
    if not has_table(conn, "alembic_version"):
        return None
    row = conn.execute("SELECT version_num FROM alembic_version").fetchone()
    return None if row is None else str(row["version_num"])


def _serves(conn: Connection) -> bool:
    """Whether the newer schema says that this release may still run on it."""
    return has_table(conn, "darkroom_compatible_with") and bool(
        conn.execute("SELECT 1 FROM darkroom_compatible_with WHERE revision = %s", (head(),)).fetchone()
    )
