"""A service that refuses, for tests of what clients make of it."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from storage.access.tokens import create_token
from storage.postgres.database import Connection, connect
from tests.conftest import RunningServices
from tests.support.serving import Service

MODEL = "darkroom/blank"
BREAKS = "what the database refuses"


def guard(service: Service) -> None:
    """From now on it wants tokens, and its database refuses one prompt: a bug that nobody thought of."""
    with connect(service.settings.database_url, application_name="test") as conn:
        create_token(conn, "first")
        conn.execute(f"ALTER TABLE predictions ADD CHECK (input->>'prompt' <> '{BREAKS}')")


def token(conn: Connection, *, rate_per_minute: int = 0) -> str:
    return create_token(conn, secrets.token_hex(4), rate_per_minute=rate_per_minute)


def inputs() -> dict[str, str]:
    """Nobody asked for that before: it is drawn, not taken from the cache of results."""
    return {"prompt": secrets.token_hex(8)}


def made_by(conn: Connection, prompt: str) -> int:
    row = conn.execute("SELECT count(*) AS n FROM predictions WHERE input->>'prompt' = %s", (prompt,)).fetchone()
    assert row is not None
    number: int = row["n"]
    return number


@contextmanager
def postgres_away(services: RunningServices, service: Service) -> Iterator[Callable[[], None]]:
    """The API has no connection and gets none, until the end or until what this gives is called."""
    with connect(service.settings.database_url, application_name="test") as conn:
        name = conn.info.dbname
    with connect(services.database_url, application_name="test") as admin:

        def come_back() -> None:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        try:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name = %s",
                (name, "darkroom api"),
            )
            yield come_back
        finally:
            come_back()
