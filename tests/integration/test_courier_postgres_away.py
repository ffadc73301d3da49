"""The courier while Postgres dies, comes back, or hangs: on a server of this module's own."""

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.embedded import EmbeddedPostgres
from storage.postgres.database import connect
from storage.postgres.migrate import upgrade
from storage.settings import Settings
from tests.integration.courier_running import process, running
from tests.integration.deliveries_of import read, write
from tests.support.eventually import eventually
from tests.support.receivers import Answer, Receiver


@pytest.fixture(scope="module")
def postgres() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as folder:
        Path(folder).chmod(0o755)  # as root, Postgres runs as an account of its own
        server = EmbeddedPostgres(Path(folder) / "postgres")
        server.start()
        try:
            upgrade(Settings(database_url=server.url))
            yield server
        finally:
            server.stop()


@pytest.fixture
def own_settings(postgres: EmbeddedPostgres) -> Settings:
    return Settings(
        database_url=postgres.url,
        webhook_allow="127.0.0.0/8",
        webhook_retry_schedule=(0, 0.5, 0.5, 0.5),
        webhook_timeout_s=5,
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


def test_deliveries_go_on_after_postgres_was_killed_and_started_again(
    postgres: EmbeddedPostgres, own_settings: Settings, receiver: Receiver
) -> None:
    with running(own_settings):
        for count in (1, 2):
            with connect(postgres.url, application_name="test") as conn:
                write(conn, receiver.url)
            receiver.wait_for(count)
            postgres.process.kill()
            postgres.process.wait()
            time.sleep(2)  # away for long enough that everybody notices
            postgres.start()
        with connect(postgres.url, application_name="test") as conn:
            delivery_id = write(conn, receiver.url)
            eventually(lambda: read(conn, delivery_id)["status"] == "delivered")


def test_a_delivery_whose_outcome_met_a_restart_is_recorded_without_a_second_post(
    postgres: EmbeddedPostgres, own_settings: Settings, receiver: Receiver
) -> None:
    receiver.answers(Answer(200, delay_s=1))
    with running(own_settings):
        with connect(postgres.url, application_name="test") as conn:
            delivery_id = write(conn, receiver.url)
        receiver.wait_for(1)
        postgres.process.kill()
        postgres.process.wait()
        time.sleep(2)  # the answer comes while it is away
        postgres.start()
        with connect(postgres.url, application_name="test") as conn:
            eventually(lambda: read(conn, delivery_id)["status"] == "delivered")
            assert read(conn, delivery_id)["attempts"] == 1
        assert len(receiver.requests) == 1


def test_a_courier_whose_postgres_hangs_still_stops_when_told(
    postgres: EmbeddedPostgres, own_settings: Settings, receiver: Receiver
) -> None:
    with process(own_settings) as courier, connect(postgres.url, application_name="test") as conn:
        write(conn, receiver.url)
        receiver.wait_for(1)
        rows = conn.execute("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'darkroom-%%'").fetchall()
        backends = [row["pid"] for row in rows]
        assert backends
        for pid in backends:
            os.kill(pid, signal.SIGSTOP)
        try:
            time.sleep(1.5)  # everybody waits for an answer now
            courier.terminate()
            assert courier.wait(30) == 0
        finally:
            for pid in backends:
                os.kill(pid, signal.SIGCONT)
