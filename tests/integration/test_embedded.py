"""The embedded servers: real ones that keep their data, come back after a crash, and leave nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import stat
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import boto3
import psutil
import psycopg
import pytest
import sqlalchemy as sa
from botocore.exceptions import ClientError
from mypy_boto3_s3 import S3Client
from pydantic import SecretStr

from cli.embedded import EmbeddedPostgres, EmbeddedS3, StartCancelled
from cli.embedded.errors import EmbeddedServerError
from cli.embedded.ports import free_ports
from cli.embedded.s3_sockets import sockets_of
from storage.s3.bucket import Bucket, BucketUnavailable, ensure_bucket
from storage.settings import Settings


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's tmp_path: each new run of pytest takes others' access to those away, and root's Postgres is one."""
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as name:
        yield Path(name).resolve()


@pytest.fixture
def postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder / "postgres")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def s3(folder: Path) -> Iterator[EmbeddedS3]:
    server = EmbeddedS3(folder / "s3", access_key_id="key", secret_access_key="secret")
    server.start()
    yield server
    server.stop()


def test_data_outlives_a_restart_and_a_crash(postgres: EmbeddedPostgres) -> None:
    with psycopg.connect(postgres.url) as conn:
        conn.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    postgres.stop()
    assert not postgres.socket_folder.exists()
    postgres.start()
    with psycopg.connect(postgres.url, autocommit=True) as conn:
        conn.execute("INSERT INTO kept VALUES (43)")
        os.kill(postgres.process.pid, signal.SIGKILL)
    postgres.start()
    with psycopg.connect(postgres.url) as conn:
        assert conn.execute("SELECT answer FROM kept ORDER BY 1").fetchall() == [(42,), (43,)]


def test_a_backend_that_is_busy_when_the_postmaster_dies_does_not_block_the_next_start(
    postgres: EmbeddedPostgres,
) -> None:
    def keep_busy() -> None:
        with pytest.raises(psycopg.OperationalError), psycopg.connect(postgres.url) as conn:
            conn.execute("SELECT count(*) FROM generate_series(1, 10_000_000_000)")

    thread = threading.Thread(target=keep_busy)
    thread.start()
    with psycopg.connect(postgres.url, autocommit=True) as conn:
        while not conn.execute("SELECT FROM pg_stat_activity WHERE query LIKE '%generate_series(1, %'").rowcount:
            pass
    os.kill(postgres.process.pid, signal.SIGKILL)
    postgres.start()
    thread.join(10)
    assert not thread.is_alive()


def test_the_next_owner_ends_a_server_that_a_killed_one_left(postgres: EmbeddedPostgres) -> None:
    with EmbeddedPostgresOf(postgres) as heir:
        assert postgres.process.wait(5) is not None
        with psycopg.connect(heir.url) as conn:
            assert conn.execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("name", ["long" * 25, "a, b", "back\\slash", '$"', "it's 100 %"])
def test_the_url_serves_sqlalchemy_whatever_the_folder_is_called(folder: Path, name: str) -> None:
    server = EmbeddedPostgres(folder / name / "post gres's")
    server.start()
    try:
        engine = sa.create_engine(server.url.replace("postgresql://", "postgresql+psycopg://"), poolclass=sa.NullPool)
        with engine.connect() as connection:
            assert connection.execute(sa.text("SHOW server_encoding")).scalar() == "UTF8"
            assert connection.execute(sa.text("SHOW fsync")).scalar() == "on"
    finally:
        server.stop()
    assert not server.socket_folder.exists()


def test_only_we_can_reach_the_socket(postgres: EmbeddedPostgres) -> None:
    assert stat.S_IMODE(postgres.socket_folder.stat().st_mode) == 0o700
    assert psutil.Process(postgres.process.pid).net_connections("inet") == []


def test_a_start_that_is_given_up_leaves_nothing(folder: Path) -> None:
    server = EmbeddedPostgres(folder / "postgres")
    cancelled = threading.Event()
    timer = threading.Timer(0.15, cancelled.set)
    timer.start()
    with pytest.raises(StartCancelled):
        server.start(cancelled)
    assert not list(server.folder.glob("initdb-*"))
    server.start()
    server.stop()


def test_objects_outlive_a_restart_and_a_crash(s3: EmbeddedS3) -> None:
    body = os.urandom(300_000)
    client = client_of(s3)
    endpoint = s3.endpoint_url
    client.create_bucket(Bucket="pictures")
    client.put_object(Bucket="pictures", Key="a/b.png", Body=body)
    s3.stop()
    s3.start()
    assert s3.endpoint_url == endpoint
    assert client.get_object(Bucket="pictures", Key="a/b.png")["Body"].read() == body
    os.kill(s3.process.pid, signal.SIGKILL)
    s3.start()
    assert client.get_object(Bucket="pictures", Key="a/b.png")["Body"].read() == body
    client.put_object(Bucket="pictures", Key="a/c.png", Body=body)


@pytest.mark.parametrize("part", ["master", "volume.grpc", "filer", "s3.grpc"])
def test_it_starts_also_if_somebody_takes_one_of_its_inner_ports_first(
    folder: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedS3(folder / "s3", access_key_id="key", secret_access_key="secret")
    with ExitStack() as held:

        def launch() -> None:
            """Between the choice of the ports and the start of the server."""
            if part not in taken:
                server._ports["s3"] = free_ports(1)[0]
                server._choose_inner_ports()
                taken[part] = held.enter_context(socket.create_server(("127.0.0.1", server._ports[part])))
            EmbeddedS3.launch(server)

        taken: dict[str, socket.socket] = {}
        monkeypatch.setattr(server, "launch", launch)
        server.start()
        assert server._ports[part] != taken[part].getsockname()[1]
        server.stop()


@pytest.mark.parametrize(("port_of", "starts_again"), [("filer", True), ("s3", False)])
def test_a_taken_port_is_noticed_although_more_was_logged_after_it_and_not_by_what_an_earlier_start_logged(
    folder: Path, port_of: str, starts_again: bool
) -> None:
    server = EmbeddedS3(folder / "s3", access_key_id="key", secret_access_key="secret")
    server._ports["s3"] = free_ports(1)[0]
    server._choose_inner_ports()
    server.folder.mkdir(parents=True, exist_ok=True)
    said = f"F1127 server listens on 127.0.0.1:{server._ports[port_of]}: bind: address already in use\n"
    server.log.write_text(said + "I1127 + s3@@ local subscribe /etc/\n" * 20)
    assert server._lost_an_inner_port() is starts_again
    server._log_begins_at = len(said)
    assert not server._lost_an_inner_port()


def test_a_taken_s3_port_is_an_error_since_clients_know_it(folder: Path) -> None:
    server = EmbeddedS3(folder / "s3", access_key_id="key", secret_access_key="secret")
    server._ports["s3"] = free_ports(1)[0]
    server._choose_inner_ports()
    with socket.create_server(("127.0.0.1", server._ports["s3"])), pytest.raises(EmbeddedServerError):
        server.start()
    assert server.process.poll() is not None


@pytest.mark.parametrize(("key", "secret"), [("key", "wrong"), ("wrong", "secret")])
def test_wrong_keys_are_refused(s3: EmbeddedS3, key: str, secret: str) -> None:
    with pytest.raises(ClientError) as refused:
        client_of(s3, key, secret).list_buckets()
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 403


def test_the_sockets_of_a_killed_server_are_swept_by_the_next_start_of_any_and_those_of_a_living_one_stay(
    s3: EmbeddedS3, folder: Path
) -> None:
    killed = EmbeddedS3(folder / "killed", access_key_id="key", secret_access_key="secret")
    killed.start()
    os.kill(killed.process.pid, signal.SIGKILL)
    killed.process.wait()
    dead, living = ([path for path in sockets_of(server._options()) if path.exists()] for server in (killed, s3))
    assert dead
    assert living
    for path in (*dead, *living):
        os.utime(path, (0, 0))
    another = EmbeddedS3(folder / "another", access_key_id="key", secret_access_key="secret")
    another.launch()
    another.stop()
    assert not [path for path in dead if path.exists()]
    assert [path for path in living if path.exists()] == living


def test_it_listens_on_loopback_only_and_keeps_its_keys_to_itself(s3: EmbeddedS3) -> None:
    process = psutil.Process(s3.process.pid)
    listening = [c for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    assert listening
    assert {c.laddr.ip for c in listening} == {"127.0.0.1"}
    assert stat.S_IMODE((s3.folder / "identity.json").stat().st_mode) == 0o600
    assert "secret" not in " ".join(process.cmdline())


class EmbeddedPostgresOf:
    """Another owner of the same folder, as after the first was killed."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._heir = EmbeddedPostgres(server.folder)

    def __enter__(self) -> EmbeddedPostgres:
        self._heir.start()
        return self._heir

    def __exit__(self, *_: object) -> None:
        self._heir.stop()


def test_with_tls_nobody_who_takes_the_port_while_the_server_is_down_is_believed(folder: Path) -> None:
    server = EmbeddedS3(folder / "s3", access_key_id="key", secret_access_key="secret", tls=True)
    server.start()
    settings = Settings(
        database_url="postgresql://nowhere/nothing",
        s3_endpoint_url=server.endpoint_url,
        s3_access_key_id="key",
        s3_secret_access_key=SecretStr("secret"),
        s3_ca_bundle=server.ca_bundle,
    )
    port = int(server.endpoint_url.rpartition(":")[2])
    stranger = EmbeddedS3(folder / "stranger", access_key_id="key", secret_access_key="secret", tls=True)
    heard: list[bytes] = []
    try:
        ensure_bucket(settings)
        bucket = Bucket(settings)
        bucket.put("a", b"a picture", "text/plain")
        server.stop()
        with socket.create_server(("127.0.0.1", port)) as squatter:  # as another account does that waits for the port
            squatter.settimeout(30)

            def listen() -> None:
                with suppress(OSError):
                    while True:
                        connection, _ = squatter.accept()
                        with connection:
                            heard.append(connection.recv(65536))
                            connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "0"\r\nContent-Length: 0\r\n\r\n')

            thread = threading.Thread(target=listen)
            thread.start()
            with pytest.raises(BucketUnavailable):
                bucket.put("b", b"a secret prompt", "text/plain")
            squatter.shutdown(socket.SHUT_RDWR)
            thread.join(30)
        assert heard
        assert not any(b"secret" in said or b"PUT" in said for said in heard)
        stranger._ports = dict(server._ports)  # a server with a certificate of its own on the very same port
        stranger.start()
        with pytest.raises(BucketUnavailable):
            bucket.put("b", b"a secret prompt", "text/plain")
        stranger.stop()
        server.start()
        bucket.put("b", b"another picture", "text/plain")
        assert b"".join(bucket.open("a").chunks) == b"a picture"
    finally:
        stranger.stop()
        server.stop()


def client_of(server: EmbeddedS3, key: str = "key", secret: str = "secret") -> S3Client:  # noqa: S107 (of a server that lives for one test)
    return boto3.session.Session().client(
        "s3",
        endpoint_url=server.endpoint_url,
        aws_access_key_id=key,
        aws_secret_access_key=secret,
        region_name="us-east-1",
    )
