"""Bringing the database to the schema that this code works with, one process at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext

import migrations
from storage.errors import OperatorError
from storage.postgres.connecting import connect_options
from storage.postgres.database import connect
from storage.postgres.own_schema import ensure_schema, require_own_tables, require_utf8
from storage.postgres.schema_revision import first_line, known_revisions, newer, unreachable
from storage.postgres.tables import Table
from storage.settings import Settings

# Any number will do, as long as no other program that uses the same database takes the same one.
ADVISORY_LOCK = 4_936_172_350_127_001

# Providers limit what a request may take. A migration may take longer, and may wait for another one.
NO_TIME_LIMITS = """
SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN
    ('statement_timeout', 'lock_timeout', 'transaction_timeout', 'idle_in_transaction_session_timeout')
"""


def open_engine(url: str) -> sa.Engine:
    """An engine without a pool. SQLAlchemy serves migrations only; requests run on psycopg itself.

    psycopg reads the URL: SQLAlchemy's own parser refuses several hosts.
    """

    def open_connection() -> psycopg.Connection[Any]:
        return psycopg.connect(url, **connect_options(url))

    return sa.create_engine("postgresql+psycopg://", poolclass=sa.NullPool, creator=open_connection)


def upgrade(settings: Settings, revision: str = "head") -> None:
    """Migrate up to `revision`. A second process waits, then finds nothing to do.

    Raises OperatorError where Postgres can't be reached, SchemaMismatch where a newer release migrated it.
    """
    with _locked(settings) as connection:
        _require_known(connection)
        command.upgrade(_config(connection), revision)


def downgrade(settings: Settings, revision: str) -> None:
    """Migrate down to `revision` ("base" removes everything, data included)."""
    with _locked(settings) as connection:
        _require_known(connection)
        command.downgrade(_config(connection), revision)


def differences(settings: Settings) -> list[object]:
    """What autogenerate would write: empty when the tables in the code and in the database are the same."""
    with _connected(settings) as connection:
        context = MigrationContext.configure(
            connection,
            opts={"compare_type": True, "compare_server_default": True, "include_object": is_ours},
        )
        return list(compare_metadata(context, Table.metadata))


def current_schema(connection: sa.Connection) -> str | None:
    """The schema that has our tables: another one of `search_path` may have another application's Alembic table."""
    name: str | None = connection.execute(sa.text("SELECT current_schema()")).scalar()
    return name


def is_ours(item: object, name: str | None, type_: str, reflected: bool, compare_to: object) -> bool:
    """Procrastinate's tables are its own business, and so is our index on one of them (revision 0001)."""
    return not str(getattr(getattr(item, "table", item), "name", "")).startswith(("procrastinate_", "alembic_version"))


@contextmanager
def _connected(settings: Settings, *, makes_schema: bool = False) -> Iterator[sa.Connection]:
    try:
        with connect(settings.direct_url, application_name="darkroom migrate") as conn:
            require_utf8(conn)  # before SQLAlchemy, which can't read the answers of other databases
            if makes_schema:
                ensure_schema(conn)
            require_own_tables(conn)
        connection = open_engine(settings.direct_url).connect()
    except (psycopg.OperationalError, sa.exc.OperationalError, sa.exc.ArgumentError) as error:
        raise unreachable(_cause(error)) from None
    with connection:
        yield connection


@contextmanager
def _locked(settings: Settings) -> Iterator[sa.Connection]:
    with _connected(settings, makes_schema=True) as connection:
        connection.execute(sa.text(NO_TIME_LIMITS))
        connection.execute(sa.text("SELECT pg_advisory_lock(:key)"), {"key": ADVISORY_LOCK})
        connection.commit()
        try:
            yield connection
            connection.commit()
        except (sa.exc.DBAPIError, psycopg.Error) as error:  # 0001 runs Procrastinate's SQL on psycopg itself
            connection.rollback()
            raise OperatorError(f"The migration failed and was rolled back: {first_line(_cause(error))}.") from error
        finally:
            connection.execute(sa.text("SELECT pg_advisory_unlock(:key)"), {"key": ADVISORY_LOCK})
            connection.commit()


def _require_known(connection: sa.Connection) -> None:
    current = _current(connection)
    if current is not None and current not in known_revisions():
        raise newer(current)


def _current(connection: sa.Connection) -> str | None:
    opts = {"version_table_schema": current_schema(connection)}
    revision = MigrationContext.configure(connection, opts=opts).get_current_revision()
    connection.rollback()  # reading began a transaction, Alembic wants to begin its own
    return revision


def _config(connection: sa.Connection) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    config.attributes["connection"] = connection
    return config


def _cause(error: BaseException) -> BaseException:
    """What psycopg says, without SQLAlchemy's words around it."""
    cause: BaseException = getattr(error, "orig", None) or error
    return cause
