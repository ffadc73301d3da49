"""How Alembic reaches the database: the connection of `storage.postgres.migrate`, or DATABASE_URL while developing."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection

from storage.postgres.migrate import current_schema, is_ours, open_engine
from storage.postgres.tables import Table
from storage.settings import Settings


def run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=Table.metadata,
        version_table_schema=current_schema(connection),
        include_object=is_ours,
        compare_type=True,
        compare_server_default=True,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


given: Connection | None = context.config.attributes.get("connection")
if given is not None:
    run(given)
else:
    with open_engine(Settings().direct_url).connect() as connection:
        run(connection)
        connection.commit()
