"""Under `darkroom up`, API, workers and courier log in to the embedded Postgres with a role that may do less."""

from __future__ import annotations

import stat
from pathlib import Path

import psycopg
import pytest

from cli.embedded import EmbeddedPostgres
from cli.embedded.app_role import ROLE
from cli.supervision.data_folder import DataFolder
from storage.access.tokens import create_token
from storage.postgres.migrate import upgrade
from storage.settings import Settings
from tests.acceptance.running_up import RunningUp, darkroom, up


def test_the_roles_have_fewer_rights_and_the_operators_commands_go_on(folder: Path) -> None:
    with up(folder, "--idle-exit", "60") as running:
        running.wait_for_status(running.submit(), "succeeded")
        urls = {name: database_url(running, name) for name in ("api", "courier", "worker")}
        assert len(set(urls.values())) == 1
        url = urls["api"]
        with psycopg.connect(url, autocommit=True) as conn:
            assert conn.execute(
                "SELECT current_user, rolsuper FROM pg_roles WHERE rolname = current_user"
            ).fetchall() == [(ROLE, False)]
            for forbidden in (
                "ALTER TABLE predictions ADD COLUMN more text",
                "CREATE TABLE mine (id int)",
                "COPY predictions TO PROGRAM 'true'",
                "SELECT pg_read_file('postgresql.conf')",
                "SET ROLE postgres",
                "SELECT rolpassword FROM pg_authid",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    conn.execute(forbidden)
        password = DataFolder(running.data).database_password()
        assert password in url
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(url.replace(password, "wrong"))
        assert password not in running.output
        assert password not in (running.data / "postgres" / "postgres.log").read_text()
        assert stat.S_IMODE((running.data / "database-password").stat().st_mode) == 0o600
        for command in (("tokens", "list"), ("webhooks", "list"), ("workers",)):
            darkroom(*command, "--data", str(running.data))
        darkroom("tokens", "create", "n8n", "--data", str(running.data))
        assert running.interrupt() == 0


def test_a_folder_of_an_earlier_release_gets_the_role_and_keeps_its_data(folder: Path) -> None:
    """Earlier releases had no role but the superuser."""
    data = DataFolder(folder / "data")
    postgres = EmbeddedPostgres(data.postgres)
    postgres.start()
    upgrade(Settings(database_url=postgres.url))
    with psycopg.connect(postgres.url, autocommit=True, row_factory=psycopg.rows.dict_row) as conn:
        assert conn.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", (ROLE,)).fetchone() is None
        token = create_token(conn, "kept")
    postgres.stop()
    for _ in range(2):
        with up(folder) as running:
            assert f"//{ROLE}:" in database_url(running, "api")
            status, _ = running.request("GET", "/v1/predictions", Authorization=f"Bearer {token}")
            assert status == 200
            assert running.interrupt() == 0


def database_url(running: RunningUp, role: str) -> str:
    process = running.role(role)
    assert process is not None, role
    environment = process.environ()
    assert "//postgres@" not in environment["DATABASE_URL"]
    assert not environment.get("DATABASE_DIRECT_URL")
    return environment["DATABASE_URL"]
