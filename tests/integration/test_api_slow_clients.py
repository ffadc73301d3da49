"""The real server beside hundreds of clients that never finish: others are answered, the slow ones are sent away."""

from __future__ import annotations

import json
import re
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from storage.postgres.database import connect as connect_database
from tests.conftest import RunningServices
from tests.support.eventually import eventually
from tests.support.raw_http import answers, connect, read_to_the_end
from tests.support.serving import Service, serving
from tests.support.slow_clients import KINDS, SMALL_BUFFER_BYTES, SlowClients

BODY = {"model": "darkroom/nobody", "input": {"prompt": "a"}}
EACH = 60
# Far fewer threads than slow clients: if one client held one, nobody else would be answered.
LIMITS: dict[str, Any] = {
    "api_threads": 24, "api_max_streams": 8, "api_max_waiting": 8, "api_busy_threads": 4, "api_keepalive_s": 2,
    "api_header_timeout_s": 3, "api_body_timeout_s": 4, "api_send_timeout_s": 4, "api_max_buffered_bytes": 8 * 2**20,
    "api_min_bytes_per_s": 10 * 2**20,
}  # fmt: skip
# Far more than any of these: the machine may be busy.
PATIENCE_S = 60.0


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("log") / "api.log"


@pytest.fixture(scope="module")
def service(services: RunningServices, tmp_path_factory: pytest.TempPathFactory, log: Path) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with serving(services, folder, workers=False, api_log=log, **LIMITS) as running:
        yield running
    assert "Traceback" not in log.read_text()


def host(service: Service) -> bytes:
    return f"Host: {service.url.removeprefix('http://')}\r\n".encode()


def test_others_are_answered_beside_hundreds_of_slow_clients_of_every_kind(service: Service) -> None:
    slow = SlowClients(service.url, EACH)
    stopping = threading.Event()

    def be_slow() -> None:
        while not stopping.is_set():
            slow.go_on(0.5)

    slow.come()
    thread = threading.Thread(target=be_slow)
    thread.start()
    try:
        for _ in range(10):
            assert requests.get(f"{service.url}/healthz", timeout=PATIENCE_S).status_code == 200
            assert requests.post(f"{service.url}/v1/predictions", json=BODY, timeout=PATIENCE_S).status_code == 201
            time.sleep(0.5)
        sent_away = [kind.name for kind in KINDS if kind.reads]
        eventually(lambda: all(slow.closed[name] >= EACH for name in sent_away))
    finally:
        stopping.set()
        thread.join()
        slow.leave()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        (b"GET /healthz HTTP/1.1\r\n", "API_HEADER_TIMEOUT_S"),
        (b"POST /v1/predictions HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{", "API_BODY_TIMEOUT_S"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n", "API_BODY_TIMEOUT_S"),
    ],
)
def test_a_request_that_does_not_come_to_its_end_is_answered_408(service: Service, sent: bytes, said: str) -> None:
    with connect(service.url) as connection:
        connection.sendall(sent)
        [answer] = answers(read_to_the_end(connection))
    assert answer.status == 408
    assert answer.headers["content-type"] == "application/problem+json"
    assert said in json.loads(answer.body)["detail"]


def test_a_connection_that_says_nothing_is_closed_without_a_word(service: Service) -> None:
    with connect(service.url) as never, connect(service.url) as no_more:
        no_more.sendall(b"GET /healthz HTTP/1.1\r\n" + host(service) + b"\r\n")
        assert [each.status for each in answers(read_to_the_end(no_more))] == [200]  # then it was kept for 2 s
        assert read_to_the_end(never) == b""


def test_what_a_client_does_not_read_holds_no_thread_and_the_client_is_sent_away(service: Service) -> None:
    """More clients than there are threads."""
    with ExitStack() as held:
        connections = [
            held.enter_context(connect(service.url, receive_bytes=SMALL_BUFFER_BYTES))
            for _ in range(3 * LIMITS["api_threads"])
        ]
        for connection in connections:
            connection.sendall(60 * (b"GET /docs HTTP/1.1\r\n" + host(service) + b"\r\n"))
        assert requests.get(f"{service.url}/healthz", timeout=PATIENCE_S).status_code == 200
        for connection in connections:
            eventually(partial(is_reset, connection))


def is_reset(connection: socket.socket) -> bool:
    """Whether the server has cut it off; this reads nothing of what came."""
    hang_up = select.poll()
    hang_up.register(connection, 0)  # POLLHUP and POLLERR are always told
    return bool(hang_up.poll(0))


def test_a_listener_that_does_not_read_loses_its_stream(service: Service) -> None:
    """One of its events is so large that it doesn't fit into the kernel's buffers."""
    made = requests.post(f"{service.url}/v1/predictions", json=BODY, timeout=PATIENCE_S).json()
    with (
        connect(service.url, receive_bytes=SMALL_BUFFER_BYTES) as listener,
        connect_database(service.settings.database_url, application_name="test") as conn,
    ):
        path = made["urls"]["stream"].removeprefix(service.url).encode()
        listener.sendall(b"GET " + path + b" HTTP/1.1\r\n" + host(service) + b"\r\n")
        eventually(lambda: streams_open(service) == 1)
        conn.execute("UPDATE predictions SET logs = repeat('x', 5_000_000) WHERE id = %s", (made["id"],))
        requests.post(made["urls"]["cancel"], timeout=PATIENCE_S)
        eventually(lambda: streams_open(service) == 0)


def streams_open(service: Service) -> int:
    page = requests.get(f"{service.url}/metrics", timeout=PATIENCE_S).text
    found = re.search(r"^darkroom_api_streams_open (\S+)$", page, re.MULTILINE)
    assert found is not None
    return int(float(found[1]))


def test_memory_stays_bounded_under_unfinished_requests(service: Service) -> None:
    """Half bodies alone would be 24 MB; the limit is 8 MB."""
    [api] = [
        child for child in psutil.Process().children(recursive=True)
        if service.url.rpartition(":")[2] in child.cmdline() and not child.children()
    ]  # fmt: skip
    before = api.memory_info().rss
    slow = SlowClients(service.url, 800, kinds=[kind for kind in KINDS if kind.name == "half a body"])
    try:
        slow.come()
        assert requests.get(f"{service.url}/healthz", timeout=PATIENCE_S).status_code == 200
        assert api.memory_info().rss - before < 20 * 2**20
    finally:
        slow.leave()
