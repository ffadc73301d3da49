"""The pool of connections: one that Postgres closed meanwhile costs no request, and one that is well no round trip."""

from __future__ import annotations

import psycopg
import pytest
from psycopg_pool import ConnectionPool

from api.settings import ApiSettings
from storage.postgres.database import Connection, open_pool

NAME = "test pool"


def test_connections_that_postgres_closed_are_replaced_before_they_are_given_out(
    settings: ApiSettings, conn: Connection
) -> None:
    with open_pool(settings, application_name=NAME, size=2) as pool:
        for _ in range(3):
            with pool.connection() as first, pool.connection() as second:
                assert [each.execute("SELECT 1 AS n").fetchone() for each in (first, second)] == [{"n": 1}] * 2
            ended = conn.execute(
                "SELECT pg_terminate_backend(pid, 5000) AS ended FROM pg_stat_activity WHERE application_name = %s",
                (NAME,),
            ).fetchall()
            assert ended
            assert all(row["ended"] for row in ended)


def test_one_that_is_well_is_not_asked(settings: ApiSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Connection] = []
    with open_pool(settings, application_name=NAME, size=1) as pool:
        monkeypatch.setattr(ConnectionPool, "check_connection", asked.append)
        for _ in range(3):
            with pool.connection() as connection:
                connection.execute("SELECT 1")
    assert asked == []


def prepared_by(connection: Connection) -> int:
    for _ in range(10):
        connection.execute("SELECT 2")
    connection.execute("SELECT 3", prepare=True)
    row = connection.execute("SELECT count(*) AS n FROM pg_prepared_statements").fetchone()
    assert row is not None
    return int(row["n"])


def test_only_what_asks_for_it_is_prepared(settings: ApiSettings) -> None:
    with open_pool(settings, application_name=NAME, size=1) as pool, pool.connection() as connection:
        assert prepared_by(connection) == 1


def test_nothing_is_prepared_where_a_pooler_answers(settings: ApiSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psycopg.ConnectionInfo, "backend_pid", 1)  # a pooler's: none of the server's own
    with open_pool(settings, application_name=NAME, size=1) as pool, pool.connection() as connection:
        assert prepared_by(connection) == 0
