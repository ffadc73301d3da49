"""What all tests share: one real Postgres and one real S3 server for the whole run, a database for each test."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql

from api.settings import ApiSettings
from cli.embedded import EmbeddedPostgres, EmbeddedS3
from storage.postgres.database import Connection, connect
from storage.postgres.migrate import upgrade
from storage.predictions.render import Renderer, open_renderer
from storage.s3.bucket import Bucket, ensure_bucket
from storage.settings import Settings

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
# The clients in the tests (requests, httpx, urllib, curl) would ask our own servers through a proxy.
for name in ("no_proxy", "NO_PROXY"):
    os.environ[name] = ",".join(filter(None, ["127.0.0.1,localhost,::1", os.environ.get(name)]))

REPOSITORY = Path(__file__).parent.parent
TEMPLATE = "darkroom_template"
BUCKET = "darkroom-tests"


@dataclass(frozen=True)
class RunningServices:
    """Where the servers of this run are."""

    database_url: str
    s3_endpoint_url: str
    s3_access_key_id: str
    s3_secret_access_key: str

    def url_of(self, database: str) -> str:
        head, _, query = self.database_url.partition("?")
        return f"{head.rpartition('/')[0]}/{database}?{query}"

    def settings_for(self, database: str, **more: Any) -> ApiSettings:
        values: dict[str, Any] = {
            "database_url": self.url_of(database),
            "s3_endpoint_url": self.s3_endpoint_url,
            "s3_access_key_id": self.s3_access_key_id,
            "s3_secret_access_key": self.s3_secret_access_key,
            "s3_bucket": BUCKET,
            "s3_prefix": database,  # each test sees only its own objects
            "webhook_allow": "127.0.0.0/8,::1",
        }
        return ApiSettings(**(values | more))


class Servers:
    """The servers, in the process that started the run; its xdist workers are told where they are."""

    def __init__(self, *, waits_for_disk: bool = False) -> None:
        """`waits_for_disk`: as Postgres does for users; benchmarks measure that."""
        self._waits_for_disk = waits_for_disk
        self.folder = Path(tempfile.mkdtemp(prefix="dr-"))
        self.folder.chmod(0o755)  # as root, Postgres runs as an account of its own
        self.postgres = EmbeddedPostgres(self.folder / "postgres")
        self.s3 = EmbeddedS3(self.folder / "s3", access_key_id="tests", secret_access_key=secrets.token_urlsafe(24))
        self.secret = self.s3._secret_access_key

    def start(self) -> RunningServices:
        self.postgres.start()
        self.s3.start()
        running = RunningServices(self.postgres.url, self.s3.endpoint_url, "tests", self.secret)
        if not self._waits_for_disk:
            _wait_for_no_disk(running)
        _create_database(running, TEMPLATE)
        settings = running.settings_for(TEMPLATE)
        upgrade(settings)
        ensure_bucket(settings)
        return running

    def stop(self) -> None:
        self.s3.stop()
        self.postgres.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


SERVERS = pytest.StashKey[Servers]()
RUNNING = pytest.StashKey[RunningServices]()


def pytest_configure(config: pytest.Config) -> None:
    # One torch thread for each process of the tests, also the workers that they start: several threads on busy cores
    # wait for each other, and the pocket model draws up to ten times slower. Not set on import: bench/ imports this.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and threading.current_thread() is threading.main_thread():
        # A shell has started us in the background. What we start would ignore Ctrl-C too, and tests press it.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    given = getattr(config, "workerinput", None)
    if given is not None:
        config.stash[RUNNING] = RunningServices(**given["services"])


def pytest_sessionstart(session: pytest.Session) -> None:
    config = session.config
    if RUNNING in config.stash or config.option.collectonly:
        return
    config.stash[SERVERS] = servers = Servers()
    try:
        config.stash[RUNNING] = servers.start()
    except BaseException:
        servers.stop()
        raise


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    node.workerinput["services"] = vars(node.config.stash[RUNNING])


def pytest_unconfigure(config: pytest.Config) -> None:
    if SERVERS in config.stash:
        config.stash[SERVERS].stop()


@pytest.fixture(scope="session")
def services(pytestconfig: pytest.Config) -> RunningServices:
    """The Postgres and the S3 server of this run."""
    return pytestconfig.stash[RUNNING]


@contextmanager
def migrated_database(services: RunningServices) -> Iterator[str]:
    """The name of a fresh, migrated database, for as long as the block runs."""
    name = f"t{secrets.token_hex(6)}"
    _create_database(services, name, template=TEMPLATE)
    try:
        yield name
    finally:
        _drop_database(services, name)


@pytest.fixture
def database(services: RunningServices) -> Iterator[str]:
    """The name of a fresh, migrated database."""
    with migrated_database(services) as name:
        yield name


@pytest.fixture
def empty_database(services: RunningServices) -> Iterator[str]:
    """The name of a fresh database without any schema."""
    name = f"t{secrets.token_hex(6)}"
    _create_database(services, name)
    yield name
    _drop_database(services, name)


@pytest.fixture
def settings(services: RunningServices, database: str) -> ApiSettings:
    """Settings for this test's own database and its own prefix in the bucket."""
    return services.settings_for(database)


@pytest.fixture
def conn(settings: Settings) -> Iterator[Connection]:
    with connect(settings.database_url, application_name="test") as connection:
        yield connection


@pytest.fixture
def renderer(settings: Settings, conn: Connection) -> Renderer:
    return open_renderer(settings, conn)


@pytest.fixture
def bucket(settings: Settings) -> Bucket:
    return Bucket(settings)


def _wait_for_no_disk(services: RunningServices) -> None:
    """Let this Postgres survive a crash of its processes, but not one of the machine: hundreds of databases are made.

    With fsync, each DROP DATABASE waits for the disk to store what all other tests have written.
    """
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        for name in ("fsync", "full_page_writes"):
            admin.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(name)))
        admin.execute("SELECT pg_reload_conf()")


def _create_database(services: RunningServices, name: str, *, template: str | None = None) -> None:
    statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
    if template is not None:
        # Quicker than WAL_LOG for a small template, since fsync is off.
        statement += sql.SQL(" TEMPLATE {} STRATEGY file_copy").format(sql.Identifier(template))
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(statement)


def _drop_database(services: RunningServices, name: str) -> None:
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
