"""Requests as they arrive: cut anywhere, one behind the other, and malformed in every way that we know."""

from __future__ import annotations

import random
from contextlib import suppress
from dataclasses import replace

import pytest
from gunicorn.config import Config
from gunicorn.http.message import Request

from api.server.limits import Limits
from api.server.request.incoming import IN_MEMORY_BYTES, Incoming
from api.server.response.refusal import Refusal

LIMITS = Limits(
    header_bytes=2048,
    header_s=10,
    body_bytes=1000,
    upload_bytes=5000,
    body_s=30,
    send_s=30,
    bytes_per_s=32 * 1024,
    keepalive_s=75,
)
HOST = b"Host: here\r\n"
GET = b"GET /a HTTP/1.1\r\n" + HOST + b"\r\n"
POST = b"POST /b HTTP/1.1\r\n" + HOST + b"Content-Length: 5\r\n\r\nhello"
CHUNKED_HEAD = b"POST /c HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
CHUNKED = CHUNKED_HEAD + b'3\r\nhel\r\n2;x=1;y="a b"\r\nlo\r\n0\r\nDigest: 1\r\n\r\n'


def config() -> Config:
    made = Config()
    for name, value in {
        "limit_request_fields": 20,
        "limit_request_field_size": 2048,
        "limit_request_line": 1000,
        "forwarded_allow_ips": "",
        "forwarder_headers": "",
        "secure_scheme_headers": {},
    }.items():
        made.set(name, value)
    return made


def incoming(limits: Limits = LIMITS) -> Incoming:
    return Incoming(config(), limits, ("127.0.0.1", 5000))


def read_all(arriving: Incoming, *pieces: bytes) -> list[tuple[str, bytes]]:
    """Path and body of all requests that complete with these pieces."""
    found = []
    for piece in pieces:
        request: Request | None = arriving.feed(piece)
        while request is not None:
            found.append((request.path, request.body.read()))
            request = arriving.feed(b"") if not arriving.is_empty else None
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, 10_000])
def test_requests_come_out_whole_and_in_order_however_the_bytes_are_cut(size: int) -> None:
    sent = GET + POST + CHUNKED + b"\r\n" + GET + CHUNKED + POST
    pieces = [sent[at : at + size] for at in range(0, len(sent), size)]
    arriving = incoming()
    assert read_all(arriving, *pieces) == [
        ("/a", b""), ("/b", b"hello"), ("/c", b"hello"), ("/a", b""), ("/c", b"hello"), ("/b", b"hello"),
    ]  # fmt: skip
    assert arriving.is_empty


def test_nothing_comes_out_before_its_last_byte() -> None:
    for sent in (GET, POST, CHUNKED):
        assert incoming().feed(sent[:-1]) is None


def test_it_knows_how_much_is_still_to_come_and_what_it_holds() -> None:
    arriving = incoming()
    assert arriving.is_empty
    arriving.feed(POST[:10])
    assert (arriving.is_empty, arriving.has_head, arriving.in_memory_bytes) == (False, False, 10)
    arriving.feed(POST[10:-2])
    assert (arriving.has_head, arriving.expected_bytes, arriving.in_memory_bytes) == (True, 5, 3)
    assert arriving.feed(POST[-2:]) is not None
    assert (arriving.is_empty, arriving.in_memory_bytes) == (True, 5)  # the thread has them
    arriving.forget_given()
    assert arriving.in_memory_bytes == 0


def test_a_large_body_lies_in_a_file() -> None:
    body = random.Random(1).randbytes(3 * IN_MEMORY_BYTES)
    arriving = incoming(replace(LIMITS, body_bytes=len(body)))
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % len(body)
    assert arriving.feed(head + body[:-1]) is None
    assert arriving.in_memory_bytes == 0
    request = arriving.feed(body[-1:])
    assert request is not None
    assert request.body.read() == body
    request.body.close()


def test_a_body_over_the_limit_goes_to_the_application_unread_and_is_the_last() -> None:
    arriving = incoming()
    request = arriving.feed(b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1001\r\n\r\n")
    assert request is not None
    assert request.should_close()
    assert request.body.read() == b""


def test_a_chunked_body_over_the_limit_is_cut_off_one_byte_after_it() -> None:
    for chunk in (b"1\r\nx\r\n", b"3e9\r\n" + b"x" * 1001, b"ffffffffffffffff\r\n" + b"x" * 1001):
        arriving = incoming()
        request = arriving.feed(CHUNKED_HEAD + chunk * (1001 if len(chunk) < 10 else 1))
        assert request is not None
        assert request.should_close()
        assert len(request.body.read()) == 1001


def test_100_continue_is_wanted_once_and_not_when_the_body_is_here() -> None:
    head = b"POST / HTTP/1.1\r\n" + HOST + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n"
    arriving = incoming()
    assert not arriving.wants_continue()
    assert arriving.feed(head) is None
    assert arriving.wants_continue()
    assert not arriving.wants_continue()
    request = arriving.feed(b"ok")
    assert request is not None
    assert not request._expected_100_continue


REFUSED_HEADS = [
    (400, b"GET /\r\n"),  # HTTP/0.9
    (400, b"hello\r\n"),
    (400, b"\x16\x03\x01\x02\x00\x01\x00\n"),  # TLS
    (400, b"GET / HTTP/1.1\nHost: x\n\n"),
    (400, b"GET / HTTP/1.1\r\nHost: x\n\r\n\r\n"),
    (400, b"GET / HTTP/1.1\r\n\r\n"),  # no Host
    (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
    (400, b"GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET http://[/ HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET a HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"get / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (400, b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    (501, b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"),
    (505, b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (414, b"GET /" + b"a" * 1500 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
    (431, b"GET /" + b"a" * 2100),
    (431, b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 2100),
    (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: 1\r\n" * 30 + b"\r\n"),
    (417, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: more\r\nContent-Length: 1\r\n\r\n"),
]


@pytest.mark.parametrize(("status", "sent"), REFUSED_HEADS)
def test_a_head_that_is_wrong_is_refused(status: int, sent: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        incoming().feed(sent)
    assert refused.value.status == status


REFUSED_FIELDS = [
    b"Content-Length: -1", b"Content-Length: +1", b"Content-Length: 1_0", b"Content-Length: 0x5",
    b"Content-Length: 1 1",
    b"Content-Length: \xb2", b"Content-Length: ", b"Content-Length: 5\r\nContent-Length: 5", b"Content-Length: 5, 5",
    b"Content-Length: " + b"9" * 1000 + b"x",
    b"Transfer-Encoding: chunked\r\nContent-Length: 5", b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: gzip", b"Transfer-Encoding: identity", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", b"Content-Type: a\r\nContent-Type: b",
    b"X : 1", b" X: 1", b"X\t: 1", b": 1", b"X", b"X\x00Y: 1", b"X: a\x00b", b"X: a\rb", b"X: a\r\n b", b"X: a\r\n\tb",
    b"X\xdf: 1", b"X(: 1",
]  # fmt: skip


@pytest.mark.parametrize("field", REFUSED_FIELDS)
def test_a_header_field_that_could_be_read_in_two_ways_is_refused(field: bytes) -> None:
    with pytest.raises(Refusal) as refused:
        incoming().feed(b"POST / HTTP/1.1\r\n" + HOST + field + b"\r\n\r\nhello")
    assert refused.value.status == 400


def test_an_unknown_transfer_coding_is_501_and_http_1_0_has_no_chunks() -> None:
    for status, sent in (
        (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n"),
        (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ):
        with pytest.raises(Refusal) as refused:
            incoming().feed(sent)
        assert refused.value.status == status


REFUSED_CHUNKS = [
    b"-5\r\n", b"+5\r\n", b"0x5\r\n", b"ZZ\r\n", b"\r\n", b" 5\r\n", b"5 \r\n", b"5_0\r\n", b"5\n", b"\x005\r\n",
    b"10000000000000000\r\n", b"\xb2\r\n", b"5;\rx\r\n", b"5;a=\"\r\n", b"5;\x00\r\n", b"5; \r\n", b"5;" + b"a" * 300,
    b"3\r\nhello\r\n", b"5\r\nhelloxx", b"5\r\nhello\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n",
    b"0\r\nX\r\n\r\n", b"0\r\n: x\r\n\r\n", b"0\r\nX: 1\n\r\n", b"0\r\nX: " + b"a" * 9000,
    b"0\r\n" + b"X: 1\r\n" * 2000,
]  # fmt: skip


@pytest.mark.parametrize("chunks", REFUSED_CHUNKS)
def test_chunks_that_are_wrong_are_refused_wherever_they_are_cut(chunks: bytes) -> None:
    for step in (1, len(chunks)):
        with pytest.raises(Refusal) as refused:
            read_all(incoming(), CHUNKED_HEAD, *(chunks[at : at + step] for at in range(0, len(chunks), step)))
        assert refused.value.status == 400


def test_a_refusal_repeats_nothing_of_the_request() -> None:
    for _, sent in REFUSED_HEADS:
        with pytest.raises(Refusal) as refused:
            incoming().feed(sent.replace(b"Host: a", b"Host: hunter2"))
        assert b"hunter2" not in refused.value.render()


def test_headers_cannot_pass_for_variables_of_the_server() -> None:
    names = [
        b"SCRIPT_NAME",
        b"PATH_INFO",
        b"REMOTE_USER",
        b"REMOTE_ADDR",
        b"HTTP_HOST",
        b"X_Forwarded_For",
        b"Content_Length",
    ]
    request = incoming().feed(
        b"GET /a HTTP/1.1\r\n" + HOST + b"".join(name + b": /evil\r\n" for name in names) + b"\r\n"
    )
    assert request is not None
    assert request.headers == [("HOST", "here")]


def test_no_header_makes_it_https() -> None:
    fields = b"X-Forwarded-Proto: https\r\nX-Forwarded-Ssl: on\r\nX-Forwarded-Protocol: no\r\n"
    request = incoming().feed(b"GET /a HTTP/1.1\r\n" + HOST + fields + b"\r\n")
    assert request is not None
    assert request.scheme == "http"


def test_random_bytes_are_refused_or_waited_for_and_break_nothing() -> None:
    chance = random.Random(7)
    for _ in range(3000):
        good = bytearray(chance.choice([GET, POST, CHUNKED]))
        for _ in range(chance.randrange(1, 4)):
            at = chance.randrange(len(good))
            good[at : at + chance.randrange(3)] = chance.randbytes(chance.randrange(3))
        with suppress(Refusal):
            read_all(incoming(), bytes(good))


def upload(length: int | None, path: bytes = b"/v1/predictions", method: bytes = b"POST") -> bytes:
    framing = b"Transfer-Encoding: chunked" if length is None else b"Content-Length: %d" % length
    return b"%s %s HTTP/1.1\r\n%s%s\r\n\r\n" % (method, path, HOST, framing)


def test_a_large_body_waits_for_room_and_is_taken_where_it_is_given() -> None:
    arriving = incoming()
    assert arriving.feed(upload(3000) + b"x" * 10) is None
    assert arriving.asks_for_room is not None
    assert arriving.feed(b"x" * 100) is None
    arriving.decide(allowed=True)
    request = arriving.feed(b"x" * 2890)
    assert request is not None
    assert request.body.read() == b"x" * 3000


def test_a_large_body_is_cut_off_where_no_room_is_given() -> None:
    arriving = incoming()
    assert arriving.feed(upload(3000)) is None
    arriving.decide(allowed=False)
    request = arriving.feed(b"")
    assert request is not None
    assert (request.body.read(), request.should_close()) == (b"", True)


def test_a_chunked_body_asks_when_it_is_large_and_goes_on_where_room_is_given() -> None:
    for allowed, size in ((True, 3000), (False, 1001)):
        arriving = incoming()
        assert arriving.feed(upload(None) + b"bb8\r\n" + b"x" * 900) is None
        assert arriving.asks_for_room is None, "it may stay small"
        assert arriving.feed(b"x" * 900) is None
        assert arriving.asks_for_room is not None
        arriving.decide(allowed=allowed)
        request = arriving.feed(b"x" * 1200 + b"\r\n0\r\n\r\n")
        assert request is not None
        assert len(request.body.read()) == size


@pytest.mark.parametrize(
    ("head", "asks"),
    [
        (upload(3000, b"/files"), True),
        (upload(3000, b"/v1/images/edits"), True),
        (upload(3000, b"/v1/models/a/b/predictions"), True),
        (upload(1000), False),  # within the ordinary limit
        (upload(5001), False),  # over any limit
        (upload(3000, b"/v1/images/generations"), False),
        (upload(3000, b"/v1/predictions/x/cancel"), False),
        (upload(3000, method=b"PUT"), False),
    ],
)
def test_only_requests_that_may_carry_pictures_ask_for_room(head: bytes, asks: bool) -> None:
    arriving = incoming()
    arriving.feed(head)
    assert (arriving.asks_for_room is not None) is asks
