"""KEDA's query through PgBouncer in transaction mode, in the messages that its Postgres client (Go's pgx) sends.

KEDA itself needs a cluster and isn't here. libpq sends what pgx sends: one named statement by default, none with
`default_query_exec_mode=exec` or `simple_protocol`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psycopg
import pytest
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn, PGresult

from storage.postgres.database import Connection
from storage.settings import Settings
from tests.deploy.manifests import trigger_query
from tests.support.making import QUEUE, submit_one
from tests.support.pooler import KEEP_STATEMENTS, KEEPS_STATEMENTS_FROM, PGBOUNCER, Pooler, pgbouncer_version

pytestmark = pytest.mark.skipif(
    PGBOUNCER is None, reason="PgBouncer isn't installed (Debian: apt-get install pgbouncer)"
)

QUERY = trigger_query("worker/scaled-object.yaml", queue_name=QUEUE).encode()
STATEMENT = b"stmtcache_" + hashlib.sha256(QUERY).hexdigest()[:48].encode()  # pgx's name: the same on each connection
ROUNDS, CONNECTIONS = 3, 3
BINARY = 1

Ask = Callable[[PGconn], int]


@pytest.fixture
def pooler(settings: Settings, tmp_path: Path) -> Iterator[Pooler]:
    more = KEEP_STATEMENTS if pgbouncer_version() >= KEEPS_STATEMENTS_FROM else ""
    pooler = Pooler(settings.database_url, tmp_path, more)
    pooler.start()
    yield pooler
    pooler.kill()


def ask_without_name(conn: PGconn) -> int:
    """`default_query_exec_mode=exec`: the extended protocol."""
    return number_in(conn.exec_params(QUERY, None, result_format=BINARY))


def ask_simply(conn: PGconn) -> int:
    """`default_query_exec_mode=simple_protocol`"""
    return number_in(conn.exec_(QUERY))


def ask_by_name(conn: PGconn) -> int:
    """The default of pgx, on a connection that knows the statement."""
    return number_in(conn.exec_prepared(STATEMENT, None, result_format=BINARY))


def prepare(conn: PGconn) -> PGresult:
    """What pgx sends before the first question on a connection."""
    return conn.prepare(STATEMENT, QUERY)


def number_in(result: PGresult) -> int:
    assert result.status == ExecStatus.TUPLES_OK, result.error_message
    value = result.get_value(0, 0)
    assert value is not None
    return int.from_bytes(value) if result.fformat(0) == BINARY else int(value)


@pytest.mark.parametrize("ask", [ask_without_name, ask_simply])
def test_without_a_named_statement_it_is_answered_on_every_connection(
    ask: Ask, pooler: Pooler, conn: Connection
) -> None:
    asked_again_and_again(pooler, conn, ask)


@pytest.mark.skipif(
    PGBOUNCER is not None and pgbouncer_version() < KEEPS_STATEMENTS_FROM, reason="needs PgBouncer 1.21 or later"
)
def test_with_a_named_statement_it_is_answered_by_a_pooler_that_keeps_statements(
    pooler: Pooler, conn: Connection
) -> None:
    asked_again_and_again(pooler, conn, ask_by_name, begin=prepare)


def test_a_pooler_that_keeps_no_statements_refuses_the_second_connection(settings: Settings, tmp_path: Path) -> None:
    """Why docs/deploy.md tells what to add to KEDA's connection."""
    more = "" if pgbouncer_version() < KEEPS_STATEMENTS_FROM else "max_prepared_statements = 0\n"
    pooler = Pooler(settings.database_url, tmp_path, more)
    pooler.start()
    try:
        with psycopg.connect(pooler.url) as first:
            assert prepare(first.pgconn).status == ExecStatus.COMMAND_OK
            assert ask_by_name(first.pgconn) == 0
        with psycopg.connect(pooler.url) as second:
            assert b"already exists" in prepare(second.pgconn).error_message
    finally:
        pooler.kill()


def asked_again_and_again(
    pooler: Pooler, conn: Connection, ask: Ask, *, begin: Callable[[PGconn], PGresult] | None = None
) -> None:
    """Through several connections at a time, which are made anew in each round, and once the pooler starts anew."""
    for count in range(1, ROUNDS + 1):
        submit_one(conn)
        with ExitStack() as stack:
            clients = [stack.enter_context(psycopg.connect(pooler.url)).pgconn for _ in range(CONNECTIONS)]
            for client in clients:
                if begin is not None:
                    assert begin(client).status == ExecStatus.COMMAND_OK
            assert [ask(client) for client in clients] == [count] * CONNECTIONS
            # A transaction keeps the connection to Postgres that they have used so far: they get another one.
            stack.enter_context(psycopg.connect(pooler.url)).execute("SELECT")
            assert [ask(client) for client in clients] == [count] * CONNECTIONS
        if count == 1:
            pooler.kill()
            pooler.start()
