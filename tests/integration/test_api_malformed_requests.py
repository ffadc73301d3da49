"""The real server and requests that no client sends: each gets one clear answer, and leaves no traceback."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.conftest import RunningServices
from tests.support.raw_http import Answer, answers, ask
from tests.support.serving import Service, serving

BODY = b'{"model": "darkroom/nobody", "input": {"prompt": "a"}}'
JSON = b"Content-Type: application/json\r\n"
CLOSE = b"Connection: close\r\n"


@pytest.fixture(scope="module")
def service(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    log = folder / "api.log"
    with serving(services, folder, workers=False, api_log=log, max_input_image_bytes=1024) as running:
        yield running
    assert "Traceback" not in log.read_text()


def only(came: bytes) -> Answer:
    """The one answer there is; the server closed behind it."""
    [answer] = answers(came)
    return answer


def problem(came: bytes, status: int) -> str:
    """The detail of the one answer, which is to be a problem document that tells nothing of the server."""
    answer = only(came)
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["connection"] == "close"
    told = json.loads(answer.body)
    assert told["status"] == status
    assert "Traceback" not in answer.body.decode()
    assert "gunicorn" not in answer.body.decode().lower()
    return str(told["detail"])


def host(service: Service) -> bytes:
    return f"Host: {service.url.removeprefix('http://')}\r\n".encode()


def post(service: Service, fields: bytes, body: bytes) -> bytes:
    return b"POST /v1/predictions HTTP/1.1\r\n" + host(service) + JSON + fields + b"\r\n" + body


def get(service: Service, path: bytes, fields: bytes = CLOSE) -> bytes:
    return b"GET " + path + b" HTTP/1.1\r\n" + host(service) + fields + b"\r\n"


@pytest.mark.parametrize("size", [b"-5", b"0x5", b"ZZ", b"+5", b"5_0", b" 5", b"", b"\xb2", b"1" * 17])
@pytest.mark.parametrize("token", [b"", b"Authorization: Bearer dr_wrong\r\n"])
def test_a_chunk_size_that_is_none_is_answered_400_and_once(service: Service, size: bytes, token: bytes) -> None:
    sent = post(service, b"Transfer-Encoding: chunked\r\n" + token, size + b"\r\n" + BODY + b"\r\n0\r\n\r\n")
    assert "chunk" in problem(ask(service.url, sent), 400)
    assert "chunk" in problem(ask(service.url, sent + get(service, b"/healthz")), 400)


def test_a_request_behind_a_refused_one_is_not_answered(service: Service) -> None:
    for refused in (
        post(service, b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", b"0\r\n\r\n"),
        post(service, b"Content-Length: 5\r\nContent-Length: 6\r\n", b"hello"),
        b"GET /healthz HTTP/1.1\r\nNo Host\r\n\r\n",
    ):
        problem(ask(service.url, refused + get(service, b"/healthz")), 400)


def test_a_body_over_the_limit_is_answered_once_and_nothing_behind_it(service: Service) -> None:
    big = b"x" * 70_000
    for sent in (
        post(service, b"Content-Length: 70000\r\n", big),
        post(service, b"Content-Length: 70000\r\nExpect: 100-continue\r\n", b""),
        post(service, b"Content-Length: 99999999999999999999\r\n", b""),
        post(service, b"Transfer-Encoding: chunked\r\n", b"11170\r\n" + big + b"\r\n0\r\n\r\n"),
    ):
        assert "MAX_INPUT_IMAGE_BYTES" in problem(ask(service.url, sent + get(service, b"/healthz")), 413)


def test_an_unknown_path_with_a_body_over_the_limit_is_answered_once(service: Service) -> None:
    sent = b"POST /nowhere HTTP/1.1\r\n" + host(service) + b"Content-Length: 90000\r\n\r\n"
    assert only(ask(service.url, sent + b"x" * 90_000 + get(service, b"/healthz"))).status == 404


@pytest.mark.parametrize(
    ("status", "sent"),
    [
        (400, b"GET /healthz\r\n"),
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\n"),
        (400, b"GET /healthz HTTP/1.1\nHost: x\n\n"),
        (400, b"GET /healthz HTTP/1.1\r\n\r\n"),
        (400, b"GET /healthz HTTP/1.1\r\nHost: a\r\nX\x00: 1\r\n\r\n"),
        (400, b"GET /healthz HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n"),
        (400, b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n"),
        (400, b"GET http://evil.example/healthz HTTP/1.1\r\nHost: a\r\n\r\n"),
        (501, b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n"),
        (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: br\r\n\r\n"),
        (505, b"GET /healthz HTTP/3.0\r\nHost: a\r\n\r\n"),
        (414, b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
        (431, b"GET /" + b"a" * 40_000),
        (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 20_000 + b"\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 101 + b"\r\n"),
        (417, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 200-ok\r\nContent-Length: 1\r\n\r\n"),
    ],
)
def test_a_malformed_head_is_answered_with_a_problem_document(service: Service, status: int, sent: bytes) -> None:
    assert problem(ask(service.url, sent), status)


NO_OTHER_URL = [
    b"//v1//predictions", b"/v1//predictions", b"//v1/predictions", b"/v1/predictions/", b"/v1/models/", b"/healthz/",
    b"//evil.example/v1/predictions", b"/v1/./predictions", b"/v1/../v1/predictions", b"/v1/predictions//ws", b"/docs/",
    b"//", b"///healthz", b"/%2f/v1/predictions", b"/v1/predictions%2f", b"/v1/files/a//b",
]  # fmt: skip


@pytest.mark.parametrize("path", NO_OTHER_URL)
def test_no_url_is_redirected(service: Service, path: bytes) -> None:
    for method in (b"GET", b"POST", b"HEAD"):
        sent = method + b" " + path + b" HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 0\r\n" + CLOSE + b"\r\n"
        came = ask(service.url, sent)
        assert b"\r\nlocation:" not in came.lower()
        assert int(came.split(b" ", 2)[1]) not in range(300, 400)


TRICKS = [
    b"SCRIPT_NAME: /v1", b"SCRIPT-NAME: /v1", b"PATH_INFO: /metrics", b"PATH-INFO: /metrics", b"REMOTE_USER: root",
    b"REMOTE-USER: root", b"REMOTE_ADDR: 10.0.0.1", b"X-Forwarded-For: 10.0.0.1", b"X_Forwarded_For: 10.0.0.1",
    b"X-Forwarded-Proto: https", b"X-Forwarded-Protocol: ssl", b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: off",
    b"X-Forwarded-Host: evil.example", b"X-Forwarded-Prefix: /evil", b"X-Forwarded-Port: 1", b"Forwarded: host=evil",
    b"X-Original-URL: /metrics", b"X-Rewrite-URL: /metrics", b"X-HTTP-Method-Override: DELETE", b"Proxy: http://evil",
    b"wsgi.url_scheme: https", b"HTTP_AUTHORIZATION: Bearer x", b"Content_Length: 5", b"Transfer_Encoding: chunked",
]  # fmt: skip


@pytest.mark.parametrize("fields", TRICKS)
def test_no_header_changes_who_asks_or_what_for(service: Service, fields: bytes) -> None:
    made = only(ask(service.url, post(service, fields + b"\r\n" + CLOSE + b"Content-Length: %d\r\n" % len(BODY), BODY)))
    assert made.status == 201
    urls = json.loads(made.body)["urls"]
    assert all(url.startswith(f"{service.url}/") for url in urls.values())
    health = only(ask(service.url, get(service, b"/healthz", fields + b"\r\n" + CLOSE)))
    assert (health.status, health.body) == (200, b'{"status":"ok"}')


def test_requests_that_come_at_once_are_answered_in_order(service: Service) -> None:
    keep = b""
    sent = (
        get(service, b"/healthz", keep)
        + post(service, b"Content-Length: %d\r\n" % len(BODY), BODY)
        + post(service, b"Transfer-Encoding: chunked\r\n", b"%x;a=b\r\n%b\r\n0\r\nX: 1\r\n\r\n" % (len(BODY), BODY))
        + get(service, b"/nowhere", keep)
        + get(service, b"/healthz")
    )
    for pieces in ([sent], [sent[:100], sent[100:300], sent[300:]]):
        assert [answer.status for answer in answers(ask(service.url, *pieces))] == [200, 201, 201, 404, 200]


def test_100_continue_is_said_before_the_body_and_only_when_it_is_waited_for(service: Service) -> None:
    head = post(service, b"Expect: 100-continue\r\n" + CLOSE + b"Content-Length: %d\r\n" % len(BODY), b"")
    assert [each.status for each in answers(ask(service.url, head, BODY, pause_s=1))] == [100, 201]
    assert [each.status for each in answers(ask(service.url, head + BODY))] == [201]


def test_http_1_0_and_absolute_urls_are_served(service: Service) -> None:
    assert only(ask(service.url, b"GET /healthz HTTP/1.0\r\n\r\n")).status == 200
    assert only(ask(service.url, get(service, service.url.encode() + b"/healthz"))).status == 200
