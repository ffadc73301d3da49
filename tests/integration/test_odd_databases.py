"""Databases as operators have them: wrong encodings, shared with another application, with a provider's time-outs."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import quote

import psycopg
import pytest
import requests
from procrastinate.schema import SchemaManager

from api.settings import ApiSettings
from storage.errors import OperatorError
from storage.postgres import migrate, schema_revision
from storage.postgres.database import connect
from storage.postgres.migrate import upgrade
from storage.postgres.notify import (
    CHANNEL,
    IDLE_CHANNEL,
    RESCUE_CHANNEL,
    SUBMITTED_CHANNEL,
    WARM_CHANNEL,
    WORKERS_CHANNEL,
    listen,
    notify,
    notify_all,
)
from storage.postgres.own_schema import names_in
from storage.settings import Settings
from storage.workers.warm import keep_warm
from tests.conftest import RunningServices
from tests.support.command import command
from tests.support.eventually import eventually
from tests.support.making import count, submit_one
from tests.support.receivers import Receiver
from tests.support.serving import serving

# What a provider may set for all sessions. Shorter than the life of the service in the test.
TIMEOUTS = {"statement_timeout": "3s", "idle_in_transaction_session_timeout": "1s", "idle_session_timeout": "2s"}


@pytest.fixture(params=["SQL_ASCII", "LATIN1"])
def not_utf8(services: RunningServices, request: pytest.FixtureRequest) -> Iterator[Settings]:
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING '{request.param}' LOCALE 'C' TEMPLATE template0")
    yield services.settings_for(name)
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.mark.parametrize("words", [["migrate"], ["migrate", "--check"], ["prepare"], ["courier"]])
def test_a_database_that_is_not_in_utf8_is_refused_in_one_line(not_utf8: Settings, words: list[str]) -> None:
    result = command(not_utf8, *words)
    assert result.exit_code == 2, result.output
    assert len(result.output.strip().splitlines()) == 1
    assert "ENCODING 'UTF8' TEMPLATE template0" in result.output
    with psycopg.connect(not_utf8.database_url) as conn:
        assert conn.execute("SELECT count(*)::int FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


@pytest.fixture
def others(services: RunningServices, empty_database: str) -> Settings:
    """Another application has Procrastinate and Alembic in it, at a revision with the name of one of ours."""
    settings = services.settings_for(empty_database)
    with psycopg.connect(settings.database_url, autocommit=True) as conn:
        conn.execute(SchemaManager.get_schema())
        conn.execute("CREATE TABLE alembic_version (version_num varchar(32) PRIMARY KEY)")
        conn.execute("INSERT INTO alembic_version VALUES ('0005')")
        conn.execute("CREATE TABLE predictions (id int)")
    return settings


@pytest.mark.parametrize("remove", ["alembic_version", "procrastinate_jobs CASCADE", "predictions"])
def test_the_tables_of_another_application_are_left_alone(others: Settings, remove: str) -> None:
    with psycopg.connect(others.database_url, autocommit=True) as conn:
        conn.execute(f"DROP TABLE {remove}")
    for act in (migrate.upgrade, schema_revision.check):
        with pytest.raises(OperatorError, match=r"another application's .*\?options=-csearch_path%3Ddarkroom"):
            act(others)


@pytest.mark.parametrize("schemas", ["darkroom", "darkroom,public", '"$user",darkroom,public', '"Dark Room"'])
def test_a_schema_of_its_own_is_made_beside_another_application(others: Settings, schemas: str) -> None:
    with psycopg.connect(others.database_url) as conn:
        before = _tables(conn, "public")
    ours = others.model_copy(update={"database_url": _in_schema(others.database_url, schemas)})
    migrate.upgrade(ours)
    schema_revision.check(ours)
    assert migrate.differences(ours) == []
    own = next(name for name in names_in(schemas) if name not in ("$user", "public"))
    with psycopg.connect(others.database_url) as conn:
        assert {"predictions", "procrastinate_jobs", "alembic_version"} <= _tables(conn, own)
        assert _tables(conn, "public") == before
        assert conn.execute("SELECT version_num FROM public.alembic_version").fetchall() == [("0005",)]
    migrate.downgrade(ours, "base")
    with psycopg.connect(others.database_url) as conn:
        assert _tables(conn, own) == {"alembic_version"}
        assert _tables(conn, "public") == before


def test_the_names_of_a_search_path_are_read_as_postgres_does() -> None:
    assert names_in('"$user", Public,"Dark Room", "a""b"') == ["$user", "public", "Dark Room", 'a"b']


def test_a_role_that_may_not_create_the_schema_is_told_what_to_run(others: Settings) -> None:
    role = f"r{secrets.token_hex(6)}"
    with psycopg.connect(others.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'x'")
    try:
        url = _in_schema(others.database_url, "darkroom").replace("postgres@", f"{role}:x@")
        with pytest.raises(OperatorError, match=f'run CREATE SCHEMA "darkroom" AUTHORIZATION "{role}"'):
            migrate.upgrade(others.model_copy(update={"database_url": url}))
    finally:
        with psycopg.connect(others.database_url, autocommit=True) as admin:
            admin.execute(f"DROP ROLE {role}")


def test_all_of_it_works_in_a_schema_of_its_own_under_a_providers_time_outs(
    services: RunningServices, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """The schema `public` has another Darkroom, so all its names are taken."""

    def in_own_schema(settings: ApiSettings) -> ApiSettings:
        with psycopg.connect(settings.database_url, autocommit=True) as conn:
            for name, value in TIMEOUTS.items():
                conn.execute(f"ALTER DATABASE {conn.info.dbname} SET {name} = '{value}'")
        own = settings.model_copy(update={"database_url": _in_schema(settings.database_url, "darkroom,public")})
        migrate.upgrade(own)
        return own

    receiver = Receiver()
    with receiver.serving(), serving(services, tmp_path, courier=True, as_role=in_own_schema) as service:
        body = {"model": "darkroom/blank", "input": {"prompt": "a red circle"}, "webhook": receiver.url}
        body["webhook_events_filter"] = ["completed"]
        public = service.settings.database_url.partition("&options")[0]
        for turn in (1, 2):
            answer = requests.post(
                f"{service.url}/v1/predictions", json=body, headers={"Prefer": "wait=30"}, timeout=60
            )
            assert answer.json()["status"] == "succeeded", answer.text
            receiver.wait_for(turn)
            with psycopg.connect(public, autocommit=True) as watch:
                watch.execute("SET idle_session_timeout = 0")
                eventually(lambda: _oldest_idle_s(watch) < 1)  # the pools' connections were ended
        with connect(public, application_name="test") as conn:
            assert count(conn, "public.predictions") == count(conn, "public.procrastinate_jobs") == 0
            assert count(conn, "darkroom.predictions", "status = 'succeeded' AND attempt = 1") == 2
    assert "Traceback" not in "".join(capfd.readouterr())


def test_two_darkrooms_in_schemas_of_one_database_hear_only_their_own(services: RunningServices, database: str) -> None:
    first = services.settings_for(database)
    second = first.model_copy(update={"database_url": _in_schema(first.database_url, "b" * 63)})
    upgrade(second)
    with ExitStack() as stack:
        conns = [stack.enter_context(connect(each.database_url, application_name="test")) for each in (first, second)]
        for conn in conns:
            listen(conn, [CHANNEL, SUBMITTED_CHANNEL, WARM_CHANNEL, RESCUE_CHANNEL, WORKERS_CHANNEL, IDLE_CHANNEL])
        ids = []
        for conn in conns:
            row = submit_one(conn)
            ids.append(row["id"])
            notify(conn, row)
            notify_all(conn, [{"id": row["id"], "preview": "pixels", "token_id": None}])
            keep_warm(conn, row["id"], 1.0)
        for conn, own in zip(conns, ids, strict=True):
            told = [each for each in conn.notifies(timeout=2.0) if each.channel.startswith("darkroom_")]
            assert len(told) == 4
            assert all(own in each.payload for each in told)


def _oldest_idle_s(conn: psycopg.Connection) -> float:
    row = conn.execute(
        "SELECT coalesce(extract(epoch FROM max(now() - state_change)), 0)::float FROM pg_stat_activity"
        " WHERE datname = current_database() AND state = 'idle' AND pid <> pg_backend_pid()"
    ).fetchone()
    assert row is not None
    return float(row[0])


def _tables(conn: psycopg.Connection, schema: str) -> set[str]:
    return {name for (name,) in conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = %s", (schema,))}


def _in_schema(url: str, search_path: str) -> str:
    """As operators write it. In `options`, a space that separates nothing has a backslash before it."""
    return f"{url}&options=" + quote("-csearch_path=" + search_path.replace(" ", "\\ "))
