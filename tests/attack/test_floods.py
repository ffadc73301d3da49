"""Clients want everybody else to wait: many requests, connections, streams and WebSockets at once."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing

import pytest

from tests.attack.bounds import FLOOD
from tests.attack.target import Target, all_at_once

HELD = min(FLOOD, 400)  # connections that are held open at the same time: below a process's usual limit of files


@pytest.fixture
def held() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def _answers(target: Target) -> bool:
    """Whether the service answers a read, a write and a health check now."""
    return (
        target.nobody.send("GET", "/healthz").status_code == 200
        and target.victim.send("GET", "/v1/predictions").status_code == 200
        and target.victim.predict(input={"num_inference_steps": 1}).status_code == 201
    )


@pytest.mark.parametrize(
    "beginning",
    [
        b"",
        b"GET /v1/pre",
        b"GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
        b"POST /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500\r\n\r\n{",
        b"POST /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
    ],
    ids=["nothing", "request line", "header", "body", "chunk"],
)
def test_unfinished_requests_keep_nobody_from_being_answered(target: Target, held: ExitStack, beginning: bytes) -> None:
    for _ in range(HELD):
        connection = held.enter_context(closing(target.connect()))
        connection.sendall(beginning)
    assert _answers(target)


def test_clients_that_read_nothing_keep_nobody_from_being_answered(target: Target, held: ExitStack) -> None:
    request = b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    for _ in range(HELD):
        connection = held.enter_context(closing(target.connect()))
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.sendall(request * 20)
    assert _answers(target)


@pytest.mark.parametrize("way", ["events", "ws"])
def test_a_flood_of_streams_leaves_room_for_everybody_else(target: Target, held: ExitStack, way: str) -> None:
    """Above API_MAX_STREAMS, which is 60 here, each gets 503 at once."""
    made = target.attacker.predict(model="darkroom/nobody").json()
    upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    lines = [
        f"GET /v1/predictions/{made['id']}/{way} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {target.attacker.token}",
        *([upgrade + "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="] if way == "ws" else []),
    ]
    statuses: Counter[bytes] = Counter()
    for _ in range(100):
        connection = held.enter_context(closing(target.connect()))
        connection.sendall("\r\n".join([*lines, "", ""]).encode())
        statuses[connection.recv(64).split()[1]] += 1
    assert set(statuses) <= {b"200", b"101", b"503"}
    assert statuses[b"503"] >= 40
    assert _answers(target)
    theirs = target.victim.predict(model="darkroom/nobody").json()
    with target.victim.send("GET", f"/v1/predictions/{theirs['id']}/events", stream=True) as stream:
        assert stream.status_code == 200, "one token can't take all streams"
    assert target.victim.send("POST", f"/v1/predictions/{theirs['id']}/cancel").status_code == 200


def test_websockets_that_send_rubbish_end_alone(target: Target) -> None:
    made = target.attacker.predict(model="darkroom/nobody").json()
    lines = [
        f"GET /v1/predictions/{made['id']}/ws HTTP/1.1",
        "Host: 127.0.0.1",
        f"Authorization: Bearer {target.attacker.token}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    ]
    head = "\r\n".join([*lines, "", ""]).encode()
    huge_frame = b"\x82\xff" + (2**62).to_bytes(8, "big") + b"mask" + b"x" * 65536
    for rubbish in (
        b"\xff" * 100,
        huge_frame,
        b"\x81\x00" * 5000,
        b"\x89\xfe\xff\xff" + b"x" * 70000,
        b"GET / HTTP/1.1\r\n\r\n",
    ):
        answer = target.send_raw(head + rubbish)
        assert answer.startswith((b"HTTP/1.1 101", b"HTTP/1.1 503")), answer[:60]
    assert _answers(target)


def test_a_flood_of_requests_is_answered_one_by_one(target: Target) -> None:
    def ask(number: int) -> int:
        if number % 4 == 0:
            return target.nobody.send("GET", f"/v1/nothing/{number}").status_code
        if number % 4 == 1:
            return target.nobody.send("POST", "/v1/predictions", json={"number": number}).status_code
        if number % 4 == 2:
            return target.attacker.predict(model="darkroom/nobody").status_code
        return target.attacker.send("GET", "/v1/predictions").status_code

    statuses = Counter(all_at_once(ask, range(FLOOD)))
    assert set(statuses) <= {200, 201, 401, 404, 429}, statuses
    assert _answers(target)
