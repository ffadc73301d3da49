"""The whole service through PgBouncer in transaction mode, which is away at the start and dies in mid-run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import requests

from api.settings import ApiSettings
from storage.errors import OperatorError
from storage.postgres.database import Connection
from storage.postgres.pooler import wait_for_pooler
from tests.conftest import RunningServices
from tests.support.eventually import eventually
from tests.support.making import count
from tests.support.pooler import PGBOUNCER, Pooler
from tests.support.receivers import Receiver
from tests.support.serving import CATALOG, environment_of, free_port, run, stop, wait_until_ready

pytestmark = [
    pytest.mark.skipif(PGBOUNCER is None, reason="PgBouncer isn't installed (Debian: apt-get install pgbouncer)"),
    pytest.mark.timeout(600),
]
DRAWN_AT_ONCE = 4


@pytest.fixture
def pooler(settings: ApiSettings, tmp_path: Path) -> Iterator[Pooler]:
    pooler = Pooler(settings.database_url, tmp_path)
    yield pooler
    pooler.kill()


@pytest.fixture
def through(services: RunningServices, database: str, pooler: Pooler, tmp_path: Path) -> ApiSettings:
    """The settings of all parts: requests through the pooler, LISTEN and leases past it."""
    catalog = tmp_path / "models.toml"
    catalog.write_text(CATALOG)
    port = free_port()
    return services.settings_for(
        database,
        database_url=pooler.url,
        database_direct_url=services.url_of(database),
        public_url=f"http://127.0.0.1:{port}",
        models=catalog,
    )


def test_all_parts_wait_for_the_pooler_and_outlast_its_restart(
    through: ApiSettings, pooler: Pooler, conn: Connection, tmp_path: Path
) -> None:
    env = environment_of(through)
    logs = {name: tmp_path / f"{name}.log" for name in ("api", "courier", "worker")}
    receiver = Receiver()
    with receiver.serving(), ExitStack() as stack:
        processes = [
            run("api", env, "--port", through.public_url.rpartition(":")[2], log=logs["api"]),
            run("courier", env, log=logs["courier"]),
            run("worker", env, "--model", "darkroom/slow", log=logs["worker"]),
        ]
        stack.callback(stop, processes)
        for log in logs.values():
            _wait_for_words(log, "postgres.pooler_away")
        assert [process.poll() for process in processes] == [None, None, None]
        pooler.start()
        wait_until_ready(through.public_url, processes[0])

        accepted = [_post(through, receiver).json()["id"] for _ in range(DRAWN_AT_ONCE)]
        eventually(lambda: count(conn, "predictions", "status = 'processing'") > 0)
        pooler.kill()
        refused = _post(through, receiver)
        assert (refused.status_code, refused.headers["Retry-After"]) == (503, "2")
        pooler.start()
        eventually(lambda: _accepts(through, receiver, accepted))

        eventually(lambda: count(conn, "predictions", "completed_at IS NULL") == 0)
        rows = conn.execute("SELECT id, status, crashes FROM predictions").fetchall()
        assert {row["id"] for row in rows} == set(accepted)
        assert {(row["status"], row["crashes"]) for row in rows} == {("succeeded", 0)}
        received = receiver.wait_for(len(rows), timeout_s=120)
        assert len({request.headers["webhook-id"] for request in received}) == len(rows)
    for log in logs.values():
        assert "Traceback" not in log.read_text(), log.read_text()


def test_a_pooler_that_refuses_is_told_in_one_line(through: ApiSettings, pooler: Pooler) -> None:
    pooler.start()
    wait_for_pooler(through)
    refused = through.model_copy(update={"database_url": f"{pooler.url}&options=-csearch_path%3Ddarkroom"})
    with pytest.raises(OperatorError, match=r"DATABASE_URL can't be used, but DATABASE_DIRECT_URL can: .*options"):
        wait_for_pooler(refused)


def _post(settings: ApiSettings, receiver: Receiver) -> requests.Response:
    body: dict[str, Any] = {"model": "darkroom/slow", "input": {"prompt": "a"}, "webhook": receiver.url}
    body["webhook_events_filter"] = ["completed"]
    return requests.post(f"{settings.public_url}/v1/predictions", json=body, timeout=60)


def _accepts(settings: ApiSettings, receiver: Receiver, accepted: list[str]) -> bool:
    answer = _post(settings, receiver)
    if answer.status_code == 201:
        accepted.append(answer.json()["id"])
    return answer.status_code == 201


def _wait_for_words(log: Path, words: str) -> None:
    eventually(lambda: words in log.read_text(), explain=log.read_text)
