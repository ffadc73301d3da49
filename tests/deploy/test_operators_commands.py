"""`darkroom prepare`, `queues` and `workers`: what an operator, an init container or a probe runs."""

from __future__ import annotations

import socket
from pathlib import Path
from uuid import uuid4

import pytest
from click.testing import CliRunner

from cli.group import darkroom
from cli.supervision.data_folder import DataFolder
from storage.postgres.database import Connection, connect
from storage.postgres.schema_revision import check
from storage.s3.bucket import Bucket
from storage.settings import Settings
from storage.workers.registry import WorkerRow, WorkerState, list_workers, say_alive
from tests.conftest import RunningServices
from tests.support.command import command
from tests.support.making import MODEL


def sign_in(conn: Connection, state: WorkerState, *, hostname: str | None = None) -> WorkerRow:
    presence = WorkerRow(uuid4(), hostname or socket.gethostname(), 7, MODEL, state, device="NVIDIA H100")
    say_alive(conn, presence)
    return presence


def test_prepare_makes_the_schema_and_the_bucket_out_of_nothing(services: RunningServices, empty_database: str) -> None:
    settings = services.settings_for(empty_database, s3_bucket=f"new-{uuid4().hex[:12]}", s3_prefix="")
    for _ in range(2):
        assert command(settings, "prepare").exit_code == 0
    check(settings)
    Bucket(settings).check()


def test_prepare_of_the_old_release_leaves_the_schema_of_the_new_one_alone(
    settings: Settings, conn: Connection
) -> None:
    conn.execute("UPDATE alembic_version SET version_num = 'of the next release'")
    assert command(settings, "prepare").exit_code == 0
    row = conn.execute("SELECT version_num FROM alembic_version").fetchone()
    assert row == {"version_num": "of the next release"}


def test_prepare_refuses_a_schema_that_its_release_can_not_run_on(settings: Settings, conn: Connection) -> None:
    conn.execute("UPDATE alembic_version SET version_num = 'of a far release'")
    conn.execute("DELETE FROM darkroom_compatible_with")
    result = command(settings, "prepare")
    assert result.exit_code == 2
    assert "migrated by a newer Darkroom" in result.output


def test_queues_names_the_queue_of_every_model_without_a_database(tmp_path: Path) -> None:
    catalog = tmp_path / "models.toml"
    catalog.write_text('[models."a/one"]\nengine = "blank"\n[models."a/longer.name"]\nengine = "blank"\n')
    result = CliRunner().invoke(darkroom, ["queues", "--models", str(catalog)], env={"DATABASE_URL": ""})
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    assert lines[0] == ["a/one", "draw-a.one"]
    assert lines[1][0] == "a/longer.name"
    assert len(lines[1][1]) <= 40


def test_queues_says_which_file_is_missing(tmp_path: Path) -> None:
    result = CliRunner().invoke(darkroom, ["queues", "--models", str(tmp_path / "none.toml")])
    assert result.exit_code == 2
    assert "none.toml" in result.output


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a catalog, in which a command is run."""
    monkeypatch.delenv("MODELS", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_queues_takes_the_catalog_of_a_running_service_before_the_one_at_hand(elsewhere: Path) -> None:
    (elsewhere / "models.toml").write_text('[models."at/hand"]\nengine = "blank"\n')
    (elsewhere / "running.toml").write_text('[models."a/one"]\nengine = "blank"\n')
    folder = DataFolder(elsewhere / "data")
    folder.open()
    folder.note_catalog(elsewhere / "running.toml")
    assert CliRunner().invoke(darkroom, ["queues", "--data", "data"]).output.split() == ["a/one", "draw-a.one"]
    folder.close()
    assert CliRunner().invoke(darkroom, ["queues", "--data", "data"]).output.split() == ["at/hand", "draw-at.hand"]


def test_queues_without_a_catalog_says_how_to_name_one(elsewhere: Path) -> None:
    result = CliRunner().invoke(darkroom, ["queues"])
    assert result.exit_code == 2
    (line,) = result.output.splitlines()
    assert all(word in line for word in (".darkroom", "models.toml", "--data", "--models"))


def test_workers_shows_everybody_who_is_signed_in(settings: Settings, conn: Connection) -> None:
    sign_in(conn, "idle", hostname="a-gpu-box")
    sign_in(conn, "loading", hostname="another")
    result = command(settings, "workers")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        f"{MODEL}  a-gpu-box 7  NVIDIA H100  idle  0 s",
        f"{MODEL}  another 7  NVIDIA H100  loading  0 s",
    ]


@pytest.mark.parametrize(
    ("state", "code"), [("loading", 1), ("idle", 0), ("drawing", 0), ("draining", 1), ("failed", 1)]
)
def test_the_probe_is_content_when_this_hosts_worker_has_its_model(
    settings: Settings, conn: Connection, state: WorkerState, code: int
) -> None:
    sign_in(conn, "idle", hostname="somewhere-else")
    assert command(settings, "workers", "--check").exit_code == 1
    sign_in(conn, state)
    assert command(settings, "workers", "--check").exit_code == code


def test_the_probe_is_not_content_with_a_worker_that_was_not_heard_of_for_a_while(
    settings: Settings, conn: Connection
) -> None:
    presence = sign_in(conn, "idle")
    conn.execute("UPDATE workers SET seen_at = clock_timestamp() - interval '20 s' WHERE id = %s", (presence.id,))
    assert command(settings, "workers", "--check").exit_code == 1
    (row,) = list_workers(conn)
    assert 20 <= row["seen_s"] < 60


def test_workers_says_that_the_database_has_no_schema(services: RunningServices, empty_database: str) -> None:
    settings = services.settings_for(empty_database)
    with connect(settings.database_url, application_name="test"):
        result = command(settings, "workers")
    assert result.exit_code == 2
    assert "The workers can't be listed" in result.output
