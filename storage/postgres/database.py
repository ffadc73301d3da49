"""Connections to Postgres: a pool for requests, single direct ones for LISTEN, leases and rescue."""

from __future__ import annotations

import select
from typing import Any

import psycopg
from psycopg.rows import DictRow, dict_row
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from storage.postgres.connecting import Cursor, connect_options
from storage.settings import Settings

# How long a request waits for a connection. A pool whose reconnecting failed for as long starts anew with the next
# request; by its own default it would go on for 5 minutes, with pauses that double each time: after a minute without
# Postgres it could stay away for a minute more.
POOL_PATIENCE_S = 5.0

# psycopg prepares by itself what it has executed so often: never.
NOT_UNASKED = 2**62

Connection = psycopg.Connection[DictRow]
Row = DictRow


def connect(url: str, *, application_name: str, **more: Any) -> Connection:
    """One autocommit connection whose rows are dicts; transactions are `with conn.transaction()`.

    `more`: options of libpq instead of those of `connect_options`. Raises psycopg.OperationalError if Postgres can't be
    reached within 5 s, or no host of the URL takes writes.
    """
    options = connect_options(url) | more
    return psycopg.Connection[DictRow].connect(
        url, autocommit=True, row_factory=dict_row, cursor_factory=Cursor, application_name=application_name, **options
    )


def open_pool(settings: Settings, *, application_name: str, size: int | None = None) -> ConnectionPool[Connection]:
    """A pool of such connections. Each is looked at when it is taken, so a Postgres restart costs no request.

    Only statements that ask for it (`prepare=True`) are prepared, and none behind a pooler: poolers break prepared
    statements in transaction mode.
    """
    return ConnectionPool(
        settings.database_url,
        connection_class=psycopg.Connection[DictRow],
        kwargs={
            "autocommit": True,
            "row_factory": dict_row,
            "application_name": application_name,
            "prepare_threshold": None,
            "cursor_factory": Cursor,
            **connect_options(settings.database_url),
        },
        min_size=1,
        max_size=size or settings.database_pool_size,
        timeout=POOL_PATIENCE_S,
        reconnect_timeout=POOL_PATIENCE_S,
        configure=_prepare_if_direct,
        check=_check_if_it_spoke,
        open=True,
    )


def _prepare_if_direct(conn: Connection) -> None:
    """Allow prepared statements where Postgres itself has answered the connection, not a pooler.

    A pooler invents the process id that it tells its clients, since it doesn't know yet which server they will get.
    """
    row = conn.execute("SELECT pg_backend_pid() AS pid").fetchone()
    if row is not None and row["pid"] == conn.info.backend_pid:
        conn.prepare_threshold = NOT_UNASKED


def _check_if_it_spoke(conn: Connection) -> None:
    """Raise OperationalError where the connection is closed, without a round trip for one that is well.

    A server says nothing on an idle connection but that it closes it, and the kernel speaks for one that is dead
    (its keepalives). So only one that has something to read is asked.
    """
    if _has_something_to_read(conn.fileno()):
        ConnectionPool.check_connection(conn)


def make_async_pool(**options: Any) -> AsyncConnectionPool[Any]:
    """A pool for Procrastinate that looks at its connections as ours do, whatever `check` it asks for.

    With a round trip instead, whoever is cancelled during it isn't: the pool takes the cancel for a broken
    connection, and tries the next one.
    """
    return AsyncConnectionPool(**(options | {"check": _check_if_it_spoke_async}))


async def _check_if_it_spoke_async(conn: psycopg.AsyncConnection[Any]) -> None:
    if _has_something_to_read(conn.fileno()):
        await AsyncConnectionPool.check_connection(conn)


def _has_something_to_read(fileno: int) -> bool:
    found = select.poll()
    found.register(fileno, select.POLLIN)
    return bool(found.poll(0))
