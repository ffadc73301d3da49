"""Bodies and headers that want more than an answer: each gets a 4xx, and nothing else happens."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.attack.target import MODEL, Target

DEEP = "[" * 50_000
BODIES: dict[str, bytes] = {
    "nothing": b"",
    "no JSON": b"prompt=a+red+circle",
    "an array": b"[]",
    "deep arrays": DEEP.encode(),
    "deep objects": b'{"a":' * 20_000,
    "about as deep as Python recurses": ('{"input":' + "[" * 977 + "]" * 977 + "}").encode(),
    "NaN": b'{"model": "darkroom/blank", "input": {"prompt": "x", "guidance_scale": NaN}}',
    "a huge number": b'{"model": "darkroom/blank", "input": {"prompt": "x", "seed": ' + b"9" * 5000 + b"}}",
    "1e999": b'{"model": "darkroom/blank", "input": {"prompt": "x", "width": 1e999}}',
    "no UTF-8": b'{"model": "\xff\xfe"}',
    "a lone surrogate": b'{"model": "darkroom/blank", "input": {"prompt": "\\ud800"}}',
    "a NUL": b'{"model": "darkroom/blank", "input": {"prompt": "\\u0000"}}',
    "a key twice": b'{"model": "darkroom/blank", "model": "darkroom/nothing", "input": {"prompt": "x"}}',
    "__proto__": b'{"__proto__": {"admin": true}, "input": {"__class__": "x"}}',
    "many keys": json.dumps({"input": {f"k{n}": n for n in range(4000)}}).encode(),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_hostile_body_is_refused(target: Target, name: str) -> None:
    answer = target.attacker.send(
        "POST", "/v1/predictions", data=BODIES[name], headers={"Content-Type": "application/json"}
    )
    assert 400 <= answer.status_code < 500, answer.text
    assert "Traceback" not in answer.text


HEADERS: dict[str, dict[str, str]] = {
    "a script name": {"SCRIPT_NAME": "/v1"},
    "a remote user": {"REMOTE_USER": "admin", "X-Forwarded-User": "admin"},
    "another method": {"X-HTTP-Method-Override": "DELETE"},
    "another path": {"X-Original-URL": "/metrics", "X-Rewrite-URL": "/metrics"},
    "a forwarded host": {"X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "https", "X-Forwarded-Prefix": "/x"},
    "Forwarded": {"Forwarded": "for=127.0.0.1;host=evil.example;proto=https"},
    "a priority": {"X-Darkroom-Priority": "9"},
    "a long one": {"X-Long": "a" * 6000},
    "a request id": {"X-Request-ID": "a" * 500},
    "a cookie": {"Cookie": "session=admin; token=" + "b" * 200},
}


@pytest.mark.parametrize("name", HEADERS)
def test_a_header_changes_neither_who_asks_nor_what_is_answered(target: Target, name: str) -> None:
    closed = target.nobody.send("GET", "/v1/predictions", headers=HEADERS[name])
    assert closed.status_code in {400, 401, 431}
    answer = target.victim.send("GET", f"/v1/predictions/{target.picture['id']}", headers=HEADERS[name])
    if answer.status_code == 200:
        assert answer.json() == target.picture
    else:
        assert answer.status_code in {400, 431}
    assert "evil.example" not in answer.text


@pytest.mark.parametrize(
    "path",
    [
        "//v1//predictions",
        "/v1/predictions/",
        "/v1/../v1/predictions",
        "/%2e%2e/v1/predictions",
        "//evil.example/v1/predictions",
    ],
)
def test_no_path_redirects_anywhere(target: Target, path: str) -> None:
    raw = f"GET {path} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n".encode()
    answer = target.send_raw(raw)
    status = int(answer.split()[1])
    assert not 300 <= status < 400, answer
    assert b"evil.example" not in answer.partition(b"\r\n\r\n")[0], "the body may repeat the path, no header may"


FRAMINGS: dict[str, list[str]] = {
    "both lengths": ["Content-Length: 5", "Transfer-Encoding: chunked"],
    "two lengths": ["Content-Length: 5", "Content-Length: 6"],
    "a negative length": ["Content-Length: -1"],
    "a signed length": ["Content-Length: +5"],
    "an endless length": ["Content-Length: 99999999999999999999"],
    "an unknown coding": ["Transfer-Encoding: gzip, chunked, identity"],
    "a space in a name": ["Content Length: 5"],
    "no name": [": 5"],
    "a NUL": ["X: \x00"],
    "a folded line": ["X: a", " b"],
    "200 fields": [f"X-{n}: y" for n in range(200)],
}


@pytest.mark.parametrize("name", FRAMINGS)
def test_a_request_that_two_servers_could_read_in_two_ways_is_refused(target: Target, name: str) -> None:
    lines = [
        "POST /v1/predictions HTTP/1.1",
        f"Host: 127.0.0.1:{target.address[1]}",
        f"Authorization: Bearer {target.attacker.token}",
        "Content-Type: application/json",
        *FRAMINGS[name],
    ]
    body = json.dumps({"model": MODEL, "input": {"prompt": "smuggled"}})
    smuggled = f"\r\n\r\n0\r\n\r\nPOST /v1/predictions HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    answer = target.send_raw(("\r\n".join(lines) + smuggled).encode("latin-1"))
    statuses = _statuses(answer)
    assert statuses
    assert all(400 <= status < 502 and status != 500 for status in statuses), answer
    assert len(statuses) == 1, "a request that can't be read must be the last one of its connection"


@pytest.mark.parametrize("size", ["-5", "0x5", "ZZ", "+5", "5_0", " ", "f" * 17, "5;" + "x" * 9000])
def test_a_wrong_chunk_size_is_400_once(target: Target, size: str) -> None:
    head = (
        f"POST /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1:{target.address[1]}\r\n"
        "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
    )
    for who in ("", f"Authorization: Bearer {target.attacker.token}\r\n"):
        answer = target.send_raw(f"{head}{who}\r\n{size}\r\nhello\r\n0\r\n\r\n".encode())
        statuses = _statuses(answer)
        assert len(statuses) == 1, answer
        assert statuses[0] in {400, 401, 413}


def _statuses(answer: bytes) -> list[int]:
    """Of all answers on one connection."""
    return [int(part.split()[0]) for part in answer.split(b"HTTP/1.1 ")[1:]]


def test_json_says_nothing_of_the_servers_inside(target: Target) -> None:
    inside: list[Any] = ["site-packages", "/work/", "psycopg", "gunicorn", "Traceback", "werkzeug"]
    for name, body in BODIES.items():
        answer = target.nobody.send("POST", "/v1/predictions", data=body, headers={"Content-Type": "application/json"})
        said = answer.text + str(answer.headers)
        assert not [word for word in inside if word in said], name
