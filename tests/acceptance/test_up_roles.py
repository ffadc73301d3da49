"""Each role as a command of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from cli.embedded.ports import free_ports
from cli.up.readiness import answers_ready
from tests.acceptance.running_up import CATALOG, NOT_OURS, REPOSITORY
from tests.conftest import RunningServices
from tests.support.eventually import eventually

UNREACHABLE = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/none"}
ROLES = [("api",), ("courier",), ("worker", "--model", "test/blank"), ("migrate",), ("migrate", "--check")]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "cli.main", *words]


def environment(folder: Path, **more: str) -> dict[str, str]:
    catalog = folder / "models.toml"
    catalog.write_text(CATALOG)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
    return {**clean, "PYTHONPATH": str(REPOSITORY), "MODELS": str(catalog), **more}


def run(folder: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*words),
        cwd=REPOSITORY,
        env=environment(folder, **env),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("words", ROLES, ids=" ".join)
def test_a_role_without_its_database_says_so_in_one_line(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path, *words, **UNREACHABLE)
    assert done.returncode == 2
    assert "Traceback" not in done.stdout + done.stderr
    (line,) = done.stderr.strip().splitlines()
    assert "DATABASE_URL" in line


@pytest.mark.parametrize("words", ROLES, ids=" ".join)
def test_a_role_without_settings_names_what_is_missing(tmp_path: Path, words: tuple[str, ...]) -> None:
    done = run(tmp_path, *words)
    assert done.returncode == 2
    assert done.stderr.strip() == "darkroom: Set it right in the environment: DATABASE_URL is not set."


def test_a_worker_has_to_be_told_which_of_several_models(tmp_path: Path) -> None:
    done = run(tmp_path, "worker", **UNREACHABLE)
    assert done.returncode == 2
    assert "--model" in done.stderr
    assert "test/blank, test/slow" in done.stderr


def test_a_setting_is_named_and_a_secret_one_is_not_shown(tmp_path: Path) -> None:
    done = run(tmp_path, "courier", DATABASE_URL="postgresql://x", S3_ENDPOINT_URL="hidden", LOG_LEVEL="loud")
    assert done.returncode == 2
    assert "LOG_LEVEL" in done.stderr
    assert "'loud'" in done.stderr
    assert "S3_ENDPOINT_URL" in done.stderr
    assert "hidden" not in done.stderr


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("garbage", "needs to be postgresql://user:password@host:5432/database"),
        ("mysql://me:hunter2@h/db", "needs to be postgresql://"),
        ("postgresql://me:hunter2@h:x/db", "can't be read as postgresql://"),
        ("postgresql://me:hunter/2@h/db", "%2F"),
        ("postgresql://me:hunter@2@h/db", "%40"),
        ("postgresql://h/db?pasword=hunter2", "can't be read as postgresql://"),
        ("postgresql://me:hunter2@h1:5432,h2:x/db", "several hosts: host1:5432,host2:5432"),
    ],
)
@pytest.mark.parametrize("words", [("migrate",), ("workers",)], ids=" ".join)
def test_a_database_url_that_is_none_is_one_clear_line_without_its_password(
    tmp_path: Path, words: tuple[str, ...], url: str, said: str
) -> None:
    done = run(tmp_path, *words, DATABASE_URL=url)
    assert done.returncode == 2
    (line,) = done.stderr.strip().splitlines()
    assert line.startswith("darkroom: Set it right in the environment: DATABASE_URL: ")
    assert said in line
    assert "hunter" not in line
    assert "SQLAlchemy" not in line


def test_migrate_can_be_run_twice_and_checked(tmp_path: Path, services: RunningServices, empty_database: str) -> None:
    url = services.url_of(empty_database)
    before = run(tmp_path, "migrate", "--check", DATABASE_URL=url)
    assert before.returncode == 2
    assert "darkroom migrate" in before.stderr
    for _ in range(2):
        assert run(tmp_path, "migrate", DATABASE_URL=url).returncode == 0
    assert run(tmp_path, "migrate", "--check", DATABASE_URL=url).returncode == 0
    assert run(tmp_path, "migrate", "--to", "base", DATABASE_URL=url).returncode == 0


def test_the_api_runs_alone_shows_its_role_and_stops_with_exit_code_0(
    tmp_path: Path, services: RunningServices, database: str
) -> None:
    (port,) = free_ports(1)
    env = environment(
        tmp_path,
        DATABASE_URL=services.url_of(database),
        S3_ENDPOINT_URL=services.s3_endpoint_url,
        S3_ACCESS_KEY_ID=services.s3_access_key_id,
        S3_SECRET_ACCESS_KEY=services.s3_secret_access_key,
        S3_BUCKET="darkroom-tests",
    )
    api = subprocess.Popen(
        command("api", "--port", str(port)),
        cwd=REPOSITORY,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        eventually(lambda: answers_ready(f"http://127.0.0.1:{port}"))
        assert "api" in psutil.Process(api.pid).cmdline()
        api.send_signal(signal.SIGTERM)
        assert api.wait(60) == 0
    finally:
        api.kill()
        api.wait()


def test_help_is_quick_because_it_loads_nothing(tmp_path: Path) -> None:
    heavy = {"torch", "flask", "pydantic", "sqlalchemy", "psycopg", "boto3"}
    script = f"""
import sys
from click.testing import CliRunner
from cli.group import darkroom
result = CliRunner().invoke(darkroom, ["--help"])
assert result.exit_code == 0, result
assert "courier" in result.output
assert not {heavy!r} & set(sys.modules), sorted({heavy!r} & set(sys.modules))
"""
    subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, env=environment(tmp_path), check=True)
