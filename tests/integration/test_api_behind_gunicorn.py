"""What only the real server can show: chunked bodies, and that a refused one costs nothing."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from pathlib import Path

import pytest

from api.settings import ApiSettings
from storage.access.sealing import open_sealer
from storage.access.signing_keys import ensure_keys
from storage.postgres.database import Connection
from tests.conftest import REPOSITORY

BODY = json.dumps({"model": "darkroom/blank", "input": {"prompt": "a red circle"}}).encode()
LIMIT = 64 * 1024 + 2 * 1368  # MAX_BODY_BYTES, and two pictures as base64


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return ("127.0.0.1", probe.getsockname()[1])


@pytest.fixture
def env(api_settings: ApiSettings) -> dict[str, str]:
    secret = api_settings.s3_secret_access_key
    assert secret is not None
    assert api_settings.s3_access_key_id is not None
    return dict(os.environ) | {
        "DATABASE_URL": api_settings.database_url,
        "S3_ENDPOINT_URL": str(api_settings.s3_endpoint_url),
        "S3_ACCESS_KEY_ID": api_settings.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": secret.get_secret_value(),
        "S3_BUCKET": api_settings.s3_bucket,
        "MODELS": str(api_settings.models),
        "PYTHONPATH": str(REPOSITORY),
        "MAX_INPUT_IMAGE_BYTES": "1024",
    }


@pytest.fixture
def server(env: dict[str, str], address: tuple[str, int], tmp_path: Path) -> Iterator[tuple[str, int]]:
    """`darkroom api` in a process of its own."""
    log = tmp_path / "api.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "api", "--port", str(address[1])],
            cwd=REPOSITORY,
            env=env,
            stdout=output,
            stderr=output,
        )
    try:
        _wait_until_up(process, address, log)
        yield address
        assert "Traceback" not in log.read_text()
    finally:
        process.terminate()
        process.wait(15)


def test_what_the_operator_has_to_mend_is_said_in_a_line_and_without_a_traceback(
    env: dict[str, str], address: tuple[str, int], api_settings: ApiSettings, conn: Connection
) -> None:
    sealed = api_settings.model_validate(api_settings.model_dump() | {"secret_key": "k" * 40})
    ensure_keys(conn, open_sealer(sealed))
    refused = subprocess.run(
        [sys.executable, "-m", "cli.main", "api", "--port", str(address[1])],
        cwd=REPOSITORY,
        env=env | {"SECRET_KEY": "w" * 40},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert refused.returncode not in (0, None)
    assert "another SECRET_KEY" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "wwww" not in refused.stderr


@pytest.mark.parametrize(
    "request_head", ["GET /healthz HTTP/1.1\r\nHost: here\r\nConnection: close", "GET /healthz HTTP/1.0"]
)
def test_clients_that_never_close_their_side_keep_nobody_from_being_answered(
    server: tuple[str, int], request_head: str
) -> None:
    """Gunicorn by itself waits 2 s for each of them, in the thread that accepts: 40 s in all."""
    with ExitStack() as held:
        for _ in range(20):
            connection = held.enter_context(socket.create_connection(server, timeout=10))
            connection.sendall(f"{request_head}\r\n\r\n".encode())
        with closing(http.client.HTTPConnection(*server, timeout=10)) as other:
            other.request("GET", "/healthz")
            assert other.getresponse().status == 200


def test_chunked_bodies_are_read_and_held_to_the_same_limit(server: tuple[str, int]) -> None:
    assert _post_chunked(server, [BODY[:10], BODY[10:]]) == 201
    too_long = BODY[:-2] + b" " * LIMIT + BODY[-2:]
    assert _post_chunked(server, [too_long[at : at + 8192] for at in range(0, len(too_long), 8192)]) == 413
    assert _post(server, too_long) == 413
    assert _post(server, BODY[:-2] + b" " * (LIMIT - len(BODY)) + BODY[-2:]) == 201
    assert _post(server, BODY) == 201


def _post(server: tuple[str, int], body: bytes) -> int:
    with closing(http.client.HTTPConnection(*server, timeout=30)) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):  # refused before it was read to its end
            connection.request("POST", "/v1/predictions", body, {"Content-Type": "application/json"})
        return _status(connection)


def _post_chunked(server: tuple[str, int], chunks: list[bytes]) -> int:
    with closing(http.client.HTTPConnection(*server, timeout=30)) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.request("POST", "/v1/predictions", iter(chunks), encode_chunked=True, headers={
                "Content-Type": "application/json", "Transfer-Encoding": "chunked",
            })  # fmt: skip
        return _status(connection)


def _status(connection: http.client.HTTPConnection) -> int:
    answer = connection.getresponse()
    body = json.load(answer)
    if answer.status == 413:
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert body["status"] == 413
        assert str(LIMIT) in body["detail"]
    return answer.status


def _wait_until_up(process: subprocess.Popen[bytes], address: tuple[str, int], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with suppress(OSError), closing(http.client.HTTPConnection(*address, timeout=5)) as connection:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text())
