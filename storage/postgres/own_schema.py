"""Where Darkroom's tables are: in the first schema of `search_path`, which DATABASE_URL or the role may set."""

from __future__ import annotations

import re

import psycopg
from psycopg import sql

from storage.errors import OperatorError
from storage.postgres.database import Connection

NAME = re.compile(r'"((?:[^"]|"")*)"|([^,\s"]+)')
OF_THE_ROLE = "$user"  # in `search_path`: the schema with the name of the role, if there is one

OWN = "a database of its own, or a schema of its own with ?options=-csearch_path%3Ddarkroom in DATABASE_URL"


def require_utf8(conn: Connection) -> None:
    """Raise OperatorError for a database that can't hold every prompt."""
    encoding = conn.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise OperatorError(
            f"The database {conn.info.dbname} stores text as {encoding}, but Darkroom needs UTF8. An encoding can't be"
            f" changed later: create another database, CREATE DATABASE {conn.info.dbname}_utf8 ENCODING 'UTF8'"
            " TEMPLATE template0, and name it in DATABASE_URL."
        )


def ensure_schema(conn: Connection) -> None:
    """Create the schema that `search_path` names first, if it doesn't exist. Raises OperatorError if that fails."""
    row = conn.execute("SHOW search_path").fetchone()
    assert row is not None
    for name in names_in(row["search_path"]):
        if name == OF_THE_ROLE:
            if _exists(conn, conn.info.user):
                return None
        elif _exists(conn, name):
            return None
        else:
            return _create(conn, name)
    raise OperatorError(f"The search_path {row['search_path']!r} names no schema: give Darkroom {OWN}.")


def require_own_tables(conn: Connection) -> None:
    """Raise OperatorError where the schema holds another application's Alembic or Procrastinate tables."""
    others = None
    if has_table(conn, "alembic_version") and conn.execute("SELECT 1 FROM alembic_version").fetchone():
        others = "Alembic"
    elif has_table(conn, "procrastinate_jobs"):
        others = "Procrastinate"
    # Asked last: another process may be creating all of them right now, and this one comes in the same transaction.
    if others is not None and not has_table(conn, "darkroom_compatible_with"):
        raise OperatorError(f"The database already holds another application's {others} tables: give Darkroom {OWN}.")


def has_table(conn: Connection, name: str) -> bool:
    """Asked of the first schema alone, since others in `search_path` belong to others."""
    row = conn.execute("SELECT to_regclass(format('%%I.%%I', current_schema(), %s::text)) AS found", (name,)).fetchone()
    return row is not None and row["found"] is not None


def names_in(search_path: str) -> list[str]:
    """The names as Postgres reads them: `"Mine", other` as ["Mine", "other"]."""
    found = NAME.finditer(search_path)
    return [quoted.replace('""', '"') if quoted else plain.lower() for quoted, plain in (m.groups("") for m in found)]


def _exists(conn: Connection, schema: str) -> bool:
    return conn.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (schema,)).fetchone() is not None


def _create(conn: Connection, schema: str) -> None:
    statement = sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(schema))
    try:
        conn.execute(statement)
    except psycopg.errors.InsufficientPrivilege:
        owner = sql.Identifier(conn.info.user)
        remedy = sql.SQL("CREATE SCHEMA {} AUTHORIZATION {}").format(sql.Identifier(schema), owner).as_string(conn)
        raise OperatorError(
            f"{conn.info.user} may not create the schema {schema}: run {remedy} as the owner of the database."
        ) from None
    except psycopg.errors.UniqueViolation:  # another process has created it in the same moment
        pass
