"""`darkroom up` on an operator's own Postgres and S3 server."""

from __future__ import annotations

import os
import secrets
import stat
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from storage.postgres.database import Connection, connect
from tests.acceptance.running_up import NOT_OURS, REPOSITORY, RunningUp, processes_of, up
from tests.conftest import BUCKET, RunningServices


@pytest.fixture
def outside(services: RunningServices, empty_database: str) -> dict[str, str]:
    """The settings that an operator would write."""
    return {
        "DATABASE_URL": services.url_of(empty_database),
        "S3_ENDPOINT_URL": services.s3_endpoint_url,
        "S3_ACCESS_KEY_ID": services.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": services.s3_secret_access_key,
        "S3_BUCKET": f"{BUCKET}-{empty_database}",
        "S3_PREFIX": "house/one",
    }


def test_an_external_postgres_and_s3_server_work_through_settings_alone(
    tmp_path: Path, outside: dict[str, str]
) -> None:
    with up(tmp_path, env=outside) as running:
        prediction_id = running.submit()
        assert running.wait_for_status(prediction_id, "succeeded") == "succeeded"
        assert running.role("postgres") is None
        assert running.role("weed") is None
        assert running.interrupt() == 0
    with connect(outside["DATABASE_URL"], application_name="test") as conn:
        row = conn.execute("SELECT status FROM predictions WHERE id = %s", (prediction_id,)).fetchone()
    assert row == {"status": "succeeded"}


def test_other_commands_find_it_without_the_settings_that_it_was_given(tmp_path: Path, outside: dict[str, str]) -> None:
    bare = {name: value for name, value in os.environ.items() if not name.startswith((*NOT_OURS, "DARKROOM_"))}
    noted = tmp_path / "data" / "run" / "settings.json"

    def run(*words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "cli.main", *words, "--data", str(tmp_path / "data")],
            cwd=REPOSITORY, env=bare, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    with up(tmp_path, env=outside) as running:
        assert run("generate", "a circle", "-m", "test/blank", "-o", str(tmp_path / "a.png")).strip().endswith("a.png")
        assert "test/blank" in run("workers")
        assert run("webhooks", "list") == ""
        assert run("tokens", "create", "me").startswith("dr_")
        assert "test/slow" in run("queues")
        assert stat.S_IMODE(noted.stat().st_mode) == 0o600  # it holds a password
        assert running.interrupt() == 0
    assert not noted.exists()


def test_wrong_s3_credentials_are_one_clear_line(tmp_path: Path, outside: dict[str, str]) -> None:
    _assert_refused(tmp_path, outside | {"S3_SECRET_ACCESS_KEY": "not-the-key"}, "S3_SECRET_ACCESS_KEY")


def test_an_s3_server_that_nobody_answers_for_is_one_clear_line(tmp_path: Path, outside: dict[str, str]) -> None:
    _assert_refused(tmp_path, outside | {"S3_ENDPOINT_URL": "http://127.0.0.1:1"}, "S3_ENDPOINT_URL")


def test_a_database_of_a_newer_release_is_one_clear_line_and_stays_as_it_is(
    tmp_path: Path, outside: dict[str, str], services: RunningServices, database: str
) -> None:
    url = services.url_of(database)
    with connect(url, application_name="test") as conn:
        conn.execute("UPDATE alembic_version SET version_num = '9999'")
        before = _tables(conn)
        _assert_refused(tmp_path, outside | {"DATABASE_URL": url}, "newer")
        assert _tables(conn) == before


def test_a_database_that_is_not_in_utf8_is_refused_in_one_line(
    tmp_path: Path, services: RunningServices, outside: dict[str, str]
) -> None:
    name = f"t{secrets.token_hex(6)}"
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
        try:
            _assert_refused(tmp_path, outside | {"DATABASE_URL": services.url_of(name)}, "stores text as SQL_ASCII")
        finally:
            admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _tables(conn: Connection) -> list[str]:
    rows = conn.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1").fetchall()
    return [row["tablename"] for row in rows]


def _assert_refused(folder: Path, env: dict[str, str], word: str) -> None:
    with RunningUp(folder, env=env) as running:
        assert running.wait_for_exit() == 2
        complaints = [line for line in running.lines if line.startswith("darkroom: ")]
        assert len(complaints) == 1, running.output
        assert word in complaints[0]
        assert "Traceback" not in running.output
        assert "not-the-key" not in running.output
        assert processes_of(folder) == []
