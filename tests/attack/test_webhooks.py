"""A client wants the courier to call what it must not, or to be busy with nothing but its own receivers."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.attack.target import Target
from tests.support.receivers import Answer, Receiver, raw_server

PRIVATE = [
    "http://10.0.0.1/",
    "http://192.168.1.1/",
    "http://172.16.0.1/",
    "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/",
    "http://[::ffff:10.0.0.1]/",
    "http://[64:ff9b::10.0.0.1]/",
    "http://0.0.0.0/",
    "http://[::]/",
    "http://100.100.100.200/",
    "http://224.0.0.1/",
    "http://2130706433/",
    "http://0x7f000001/",
    "http://127.1/",
    "http://0/",
    "http://user@example.com/",
    "http://example.com@10.0.0.1/",
    "file:///etc/passwd",
    "gopher://127.0.0.1/",
    "ftp://example.com/",
    "http://example.com:22/",
    "http://example.com:5432/",
    "http://example.com:6379/",
    "javascript:alert(1)",
    "http://",
    "//example.com/",
]


@pytest.mark.parametrize("url", PRIVATE)
def test_a_webhook_to_a_private_place_is_refused_at_the_post(target: Target, url: str) -> None:
    answer = target.attacker.predict(webhook=url)
    assert answer.status_code == 422, answer.text
    assert "webhook" in answer.json()["detail"]


def test_a_webhook_to_a_server_of_darkrooms_own_is_refused_although_loopback_is_allowed(target: Target) -> None:
    """The service of these tests runs with WEBHOOK_ALLOW=127.0.0.0/8,::1."""
    settings = target.service.settings
    api, s3 = (urlsplit(str(url)) for url in (settings.public_url, settings.s3_endpoint_url))
    for port in (api.port, s3.port):
        for host in ("127.0.0.1", "127.0.0.2", "localhost"):
            assert target.attacker.predict(webhook=f"http://{host}:{port}/").status_code == 422, (host, port)


def test_a_record_of_a_delivery_tells_no_more_of_a_private_receiver_than_whether_it_arrived(target: Target) -> None:
    with Receiver().serving() as receiver, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        receiver.answer = lambda _: Answer(404, body=b"an inner page")
        records = []
        for port in (receiver.port, closed.getsockname()[1]):
            made = target.attacker.predict(
                webhook=f"http://127.0.0.1:{port}/", webhook_events_filter=["completed"]
            ).json()
            records.append(_record_after_an_attempt(target, made["id"]))
        assert receiver.wait_for(1)
    own = {"id", "prediction_id", "url", "created_at"}
    told = [{name: value for name, value in record.items() if name not in own} for record in records]
    assert told[0] == told[1]
    assert told[0]["status"] == "not_delivered"
    assert "404" not in str(told)


def _record_after_an_attempt(target: Target, prediction_id: str) -> dict[str, Any]:
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:
        answer = target.attacker.send("GET", f"/v1/webhook_deliveries?prediction_id={prediction_id}").json()
        for record in answer["results"]:
            if record["status"] == "not_delivered":
                return dict(record)
        time.sleep(0.2)
    raise AssertionError("no attempt was made")


def _says(*parts: bytes, pause_s: float = 0.0) -> Callable[[socket.socket, threading.Event], None]:
    def handle(connection: socket.socket, closing: threading.Event) -> None:
        connection.recv(65536)
        for part in parts:
            connection.sendall(part)
            if closing.wait(pause_s):
                return

    return handle


def _is_silent(connection: socket.socket, closing: threading.Event) -> None:
    closing.wait(30)


def _floods(head: bytes, filler: bytes) -> Callable[[socket.socket, threading.Event], None]:
    def handle(connection: socket.socket, closing: threading.Event) -> None:
        connection.recv(65536)
        connection.sendall(head)
        while not closing.is_set():
            connection.sendall(filler)

    return handle


HOSTILE: dict[str, Callable[[socket.socket, threading.Event], None]] = {
    "silent": _is_silent,
    "closes at once": _says(),
    "no HTTP": _says(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "binary": _says(b"\x00\xff" * 500),
    "drips its status line": _says(*[bytes([byte]) for byte in b"HTTP/1.1 200 OK\r\n\r\n"], pause_s=0.5),
    "drips its headers": _says(b"HTTP/1.1 200 OK\r\n", *[b"X: y\r\n"] * 60, pause_s=0.5),
    "endless headers": _floods(b"HTTP/1.1 200 OK\r\n", b"X-A: " + b"b" * 1000 + b"\r\n"),
    "endless body": _floods(b"HTTP/1.1 500 No\r\n\r\n", b"x" * 65536),
    "endless chunks": _floods(b"HTTP/1.1 500 No\r\nTransfer-Encoding: chunked\r\n\r\n", b"5\r\nhello\r\n"),
    "endless interim answers": _floods(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
    "redirect to the metadata service": _says(
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nContent-Length: 0\r\n\r\n"
    ),
    "redirect to itself": _says(b"HTTP/1.1 307 Again\r\nLocation: /\r\nContent-Length: 0\r\n\r\n"),
    "switches protocols": _says(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n"),
    "status out of range": _says(b"HTTP/1.1 999 What\r\nContent-Length: 0\r\n\r\n"),
    "negative length": _says(b"HTTP/1.1 500 No\r\nContent-Length: -5\r\n\r\n"),
    "huge Retry-After": _says(b"HTTP/1.1 503 No\r\nRetry-After: 99999999999999999999\r\nContent-Length: 0\r\n\r\n"),
    "compressed bomb": _says(
        b"HTTP/1.1 500 No\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + b"\x1f\x8b" * 10
    ),
}


def test_hostile_receivers_keep_no_others_webhook_from_arriving(target: Target) -> None:
    """Two webhooks to each kind of hostile receiver at the same time, and then one of the victim's."""
    with ExitStack() as stack:
        ports = [stack.enter_context(raw_server(handle)) for handle in HOSTILE.values()]
        for port in ports * 2:
            made = target.attacker.predict(webhook=f"http://127.0.0.1:{port}/", webhook_events_filter=["completed"])
            assert made.status_code == 201
        receiver = stack.enter_context(Receiver().serving())
        mine = target.victim.predict(webhook=receiver.url, webhook_events_filter=["completed"]).json()
        (request,) = receiver.wait_for(1)
    assert mine["id"].encode() in request.body
