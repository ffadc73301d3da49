"""A primary is killed under load, and its standby promoted: nothing accepted is lost, or drawn to two results."""

from __future__ import annotations

import secrets
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import requests

from api.settings import ApiSettings
from storage.postgres.connecting import NotWritable, connect_options
from storage.postgres.database import connect
from storage.postgres.migrate import upgrade
from tests.conftest import RunningServices
from tests.integration.courier_running import process as courier
from tests.integration.worker_running import environment, worker
from tests.support.eventually import eventually
from tests.support.making import MODEL, count
from tests.support.receivers import Receiver
from tests.support.replicated_postgres import ReplicatedPostgres, alter
from tests.support.serving import free_port, run, stop, wait_until_ready

pytestmark = pytest.mark.timeout(600)
BEFORE, AFTER = 6, 6  # predictions that are accepted before, between and after the changes


@pytest.fixture
def postgres() -> Iterator[ReplicatedPostgres]:
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)  # as root, Postgres runs as an account of its own
        with ReplicatedPostgres(Path(name)).running() as running:
            yield running


class Client:
    """Submits one prediction after the other; what isn't accepted is sent again with the same Idempotency-Key."""

    def __init__(self, url: str, webhook: str) -> None:
        self._url = url
        self._webhook = webhook
        self.accepted: list[str] = []
        self.refused: Counter[str] = Counter()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def submitting(self) -> Iterator[Client]:
        self._thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            self._thread.join()

    def wait_for(self, more: int) -> None:
        wanted = len(self.accepted) + more
        eventually(lambda: len(self.accepted) >= wanted, explain=lambda: f"refused: {self.refused}")

    def _run(self) -> None:
        key = secrets.token_hex(8)
        while not self._stop.wait(0.1):
            body: dict[str, Any] = {"model": MODEL, "input": {"prompt": key}, "webhook": self._webhook}
            body["webhook_events_filter"] = ["completed"]
            try:
                answer = requests.post(
                    f"{self._url}/v1/predictions", json=body, headers={"Idempotency-Key": key}, timeout=60
                )
            except requests.RequestException as error:
                self.refused[type(error).__name__] += 1
                continue
            if answer.status_code == 201:
                self.accepted.append(answer.json()["id"])
                key = secrets.token_hex(8)
            else:
                self.refused[f"{answer.status_code}, Retry-After {answer.headers.get('Retry-After')}"] += 1


@contextmanager
def service(settings: ApiSettings, folder: Path) -> Iterator[None]:
    """API, courier and two workers, each in a process of its own."""
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    env = environment(settings, folder, step_s=0.05)
    env |= {"PUBLIC_URL": settings.public_url, "WEBHOOK_ALLOW": settings.webhook_allow, "LOG_LEVEL": "WARNING"}
    with ExitStack() as stack:
        stack.enter_context(courier(settings))
        for name in ("one", "two"):
            stack.enter_context(worker(settings, folder / name, step_s=0.05))
        api = run("api", env, "--port", settings.public_url.rpartition(":")[2])
        stack.callback(stop, [api])
        wait_until_ready(settings.public_url, api)
        yield


def test_after_a_failover_everything_goes_on_with_the_new_primary_and_leaves_the_old_one(
    services: RunningServices, postgres: ReplicatedPostgres, tmp_path: Path
) -> None:
    settings = services.settings_for(
        f"failover-{secrets.token_hex(4)}",
        database_url=postgres.url,
        public_url=f"http://127.0.0.1:{free_port()}",
    )
    upgrade(settings)
    receiver = Receiver()
    with receiver.serving(), service(settings, tmp_path):
        with Client(settings.public_url, receiver.url).submitting() as client:
            client.wait_for(BEFORE)
            old = postgres.primary
            postgres.kill_primary()
            postgres.promote_standby()
            client.wait_for(AFTER)
            # The old primary comes back, as a standby: the first host of DATABASE_URL is there again, and is read-only.
            (old.data / "standby.signal").touch()
            old.start()
            client.wait_for(AFTER)
        with connect(settings.database_url, application_name="test") as conn:
            eventually(
                lambda: count(conn, "predictions", "completed_at IS NULL") == 0,
                explain=lambda: str(conn.execute("SELECT id, status, error, logs FROM predictions").fetchall()),
            )
            assert set(client.refused) <= {"503, Retry-After 2"}, client.refused
            rows = conn.execute("SELECT id, status, crashes FROM predictions").fetchall()
            assert {row["id"] for row in rows} == set(client.accepted)
            assert {(row["status"], row["crashes"]) for row in rows} == {("succeeded", 0)}
            assert count(conn, "images") == len(rows)
        received = receiver.wait_for(len(rows), timeout_s=120)
        ids = {request.headers["webhook-id"] for request in received}
        assert len(ids) == len({request.body for request in received}) == len(rows)


def test_a_connection_leaves_a_server_that_has_become_read_only_and_finds_the_primary(
    postgres: ReplicatedPostgres,
) -> None:
    with connect(postgres.url, application_name="test") as conn:
        conn.execute("CREATE TABLE things (n int)")
        conn.execute("SET default_transaction_read_only = on")
        with pytest.raises(NotWritable, match="read-only transaction"):
            conn.execute("INSERT INTO things VALUES (1)")
        assert conn.closed
    alter(postgres.primary, "default_transaction_read_only = on")
    postgres.promote_standby()

    def writes() -> bool:
        try:
            with connect(postgres.url, application_name="test") as conn:
                conn.execute("INSERT INTO things VALUES (1)")
        except psycopg.OperationalError:
            return False
        return True

    eventually(writes)


def test_one_host_may_be_read_only_of_several_only_one_that_takes_writes_is_used() -> None:
    assert "target_session_attrs" not in connect_options("postgresql://h/db")
    assert connect_options("postgresql://h1,h2/db")["target_session_attrs"] == "read-write"
    assert connect_options("postgresql://h1:5,h2:6/db")["connect_timeout"] == 2
    assert "target_session_attrs" not in connect_options("postgresql://h1,h2/db?target_session_attrs=any")
