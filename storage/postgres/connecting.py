"""How to connect so that only a server which takes writes is used: the primary, also after a failover."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.errors import ReadOnlySqlTransaction
from psycopg.rows import DictRow

from storage.postgres.system_certificates import system_certificates

# A dead network is noticed in about 10 s instead of the kernel's minutes or hours: a lease lasts 6 s.
KEEPALIVES: dict[str, Any] = {
    "keepalives": 1,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
# Prompts may hold any character, so PGCLIENTENCODING and ALTER ROLE must not set another encoding.
ENCODING = {"client_encoding": "UTF8"}
CONNECT_TIMEOUT_S = 5
# For each of several hosts. A host that is switched off doesn't refuse connections: every new one waits for it first.
CONNECT_TIMEOUT_PER_HOST_S = 2  # libpq's shortest


class NotWritable(psycopg.OperationalError):
    """The server takes no writes: it is a standby now, or was made read-only. It may help to connect again."""


def connect_options(url: str) -> dict[str, Any]:
    """What every connection to this URL is made with, beside what the URL says."""
    given = conninfo_to_dict(url)
    has_several = "," in f"{given.get('host') or ''}{given.get('hostaddr') or ''}"
    timeout_s = CONNECT_TIMEOUT_PER_HOST_S if has_several else CONNECT_TIMEOUT_S
    options: dict[str, Any] = KEEPALIVES | ENCODING | {"connect_timeout": timeout_s}
    if has_several and "target_session_attrs" not in given:
        options["target_session_attrs"] = "read-write"
    if given.get("sslrootcert") == "system" and given.get("sslmode", "verify-full") == "verify-full":
        options |= system_certificates()
    return options


class Cursor(psycopg.Cursor[DictRow]):
    """A cursor whose connection leaves a server that has become read-only: the next one may find the new primary.

    Raises NotWritable then, an OperationalError like that of a lost connection, since the cure is the same.
    """

    def execute(self, *args: Any, **options: Any) -> Cursor:
        with _leaving_a_read_only_server(self.connection):
            super().execute(*args, **options)
        return self

    def executemany(self, *args: Any, **options: Any) -> None:
        with _leaving_a_read_only_server(self.connection):
            super().executemany(*args, **options)


class AsyncCursor(psycopg.AsyncCursor[Any]):
    """The same for Procrastinate's connections."""

    async def execute(self, *args: Any, **options: Any) -> AsyncCursor:
        try:
            await super().execute(*args, **options)
        except ReadOnlySqlTransaction as error:
            await self.connection.close()
            raise NotWritable(str(error)) from error
        return self


@contextmanager
def _leaving_a_read_only_server(conn: psycopg.Connection[Any]) -> Iterator[None]:
    try:
        yield
    except ReadOnlySqlTransaction as error:
        conn.close()
        raise NotWritable(str(error)) from error
