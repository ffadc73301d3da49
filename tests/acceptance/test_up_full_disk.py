"""The disk of `darkroom up` is full: it says so in words, loses nothing, and goes on when there is room."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
import requests

from cli.embedded import EmbeddedPostgres
from tests.acceptance.running_up import RunningUp, up
from tests.support.eventually import eventually
from tests.support.small_disk import filled, small_disk

pytestmark = pytest.mark.timeout(600)
DISK_BYTES = 700 * 2**20


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, Postgres runs as an account of its own
        (folder / "data").mkdir()
        yield folder


def post(running: RunningUp) -> requests.Response:
    body = {"model": "test/slow", "input": {"prompt": "a red circle"}}
    return requests.post(f"{running.url}/v1/predictions", json=body, timeout=60)


def end_postgres_for_want_of_space(folder: Path) -> None:
    """It ends where it can't write its log of changes, and can't start again."""
    url = EmbeddedPostgres(folder / "data" / "postgres").url
    with suppress(psycopg.OperationalError), psycopg.connect(url, autocommit=True) as conn:
        for _ in range(100):
            conn.execute("SELECT pg_logical_emit_message(false, '', repeat('x', 2000000))")
            conn.execute("SELECT pg_switch_wal()")
        raise AssertionError("it still had room")


@pytest.mark.parametrize("postgres_ends", [False, True], ids=["Postgres runs", "Postgres ends"])
def test_a_full_disk_is_told_and_nothing_accepted_is_lost(folder: Path, postgres_ends: bool) -> None:
    with small_disk(folder / "data", size_bytes=DISK_BYTES) as disk, up(folder, "--workers", "1") as running:
        accepted = [post(running).json()["id"] for _ in range(3)]
        with filled(disk):
            if postgres_ends:
                end_postgres_for_want_of_space(folder)

            def is_refused() -> bool:
                answer = post(running)
                if answer.status_code == 201:
                    accepted.append(answer.json()["id"])
                return (answer.status_code, answer.headers.get("Retry-After")) == (503, "2")

            eventually(is_refused)
            eventually(lambda: f"The disk of {folder / 'data'} is full" in running.output)
            if postgres_ends:
                eventually(lambda: "postgres ended with exit code 1; starting it again in 2 s" in running.output)
        eventually(lambda: post(running).status_code == 201)
        eventually(lambda: f"The disk of {folder / 'data'} has room again, and work goes on." in running.output)
        for prediction_id in accepted:
            assert running.wait_for_status(prediction_id, "succeeded", "failed") == "succeeded"
