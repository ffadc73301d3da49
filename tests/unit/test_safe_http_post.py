"""The POST itself: to the judged address, no redirect, no proxy, and never longer than its deadline."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from storage.outbound.check_url import AllowList, resolve
from storage.outbound.deadline_socket import Interrupted
from storage.outbound.safe_http import MAX_HEAD_BYTES, NoAnswer, Response, post
from tests.support.receivers import LOOPBACK_ALLOWED, Answer, Receiver, raw_server

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def post_to(port: int, **options: Any) -> Response:
    options.setdefault("timeout_s", 10.0)
    return post(f"http://127.0.0.1:{port}/hook", b'{"a": 1}', {}, allow=LOOPBACK_ALLOWED, **options)


def stay_silent(_: socket.socket, closing: threading.Event) -> None:
    closing.wait(30)


def read_request(connection: socket.socket) -> bytes:
    request = b""
    while b"\r\n\r\n" not in request or not request.endswith(b"}"):
        chunk = connection.recv(65536)
        if not chunk:
            break
        request += chunk
    return request


def test_the_body_and_headers_arrive_as_given_and_the_answer_comes_back() -> None:
    with Receiver().serving() as receiver:
        receiver.answer = lambda _: Answer(202, {"X-Seen": "yes"}, b"thanks")
        url = f"http://127.0.0.1:{receiver.port}/a/b?c=%20d"
        response = post(url, '{"p": "ü"}'.encode(), {"webhook-id": "msg_1"}, allow=LOOPBACK_ALLOWED)
        (request,) = receiver.requests
    assert (response.status, response.headers["x-seen"]) == (202, "yes")
    assert request.path == "/a/b?c=%20d"
    assert request.body == '{"p": "ü"}'.encode()
    assert request.headers["webhook-id"] == "msg_1"
    assert request.headers["host"] == f"127.0.0.1:{receiver.port}"


def test_the_host_header_holds_the_name_while_the_address_is_connected_to() -> None:
    with Receiver().serving() as receiver:
        post(f"http://LocalHost:{receiver.port}/", b"", {}, allow=AllowList.parse("localhost"))
        assert receiver.requests[0].headers["host"] == f"localhost:{receiver.port}"


def test_a_redirect_is_an_answer_and_is_not_followed() -> None:
    with Receiver().serving() as elsewhere, Receiver().serving() as receiver:
        for status in (301, 302, 303, 307, 308):
            receiver.answers(Answer(status, {"Location": elsewhere.url}))
            assert post_to(receiver.port).status == status
        assert len(receiver.requests) == 5
        assert elsewhere.requests == []


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Receiver().serving() as proxy, Receiver().serving() as receiver:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert post_to(receiver.port).status == 200
        assert proxy.requests == []


@pytest.mark.parametrize("dripped", [OK, b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 1000])
def test_a_server_that_drips_its_answer_is_cut_at_the_deadline(dripped: bytes) -> None:
    def drip(connection: socket.socket, closing: threading.Event) -> None:
        read_request(connection)
        for index in range(len(dripped)):
            connection.sendall(dripped[index : index + 1])
            if closing.wait(0.1):
                return

    with raw_server(drip) as port:
        started = time.monotonic()
        with pytest.raises(NoAnswer, match=r"no answer within 0\.6 s"):
            post_to(port, timeout_s=0.6)
        assert time.monotonic() - started < 5


def test_a_server_that_says_nothing_is_cut_at_the_deadline() -> None:
    with raw_server(stay_silent) as port:
        started = time.monotonic()
        with pytest.raises(NoAnswer, match="no answer within"):
            post_to(port, timeout_s=0.3)
        assert time.monotonic() - started < 5


def test_a_server_that_does_not_read_is_cut_at_the_deadline() -> None:
    with raw_server(stay_silent) as port, pytest.raises(NoAnswer, match="no answer within"):
        post(f"http://127.0.0.1:{port}/", b"x" * 50_000_000, {}, allow=LOOPBACK_ALLOWED, timeout_s=0.3)


def test_a_server_that_never_stops_sending_is_left_after_the_limit() -> None:
    sent = 0

    def flood(connection: socket.socket, closing: threading.Event) -> None:
        nonlocal sent
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while not closing.is_set():
            sent += connection.send(b"x" * 65536)

    with raw_server(flood) as port:
        response = post_to(port, max_response_bytes=20_000)
    assert response.status == 200
    assert sent < 64_000_000  # what the kernel's buffers take, not what an endless answer would hold


def test_endless_headers_end_at_the_limit() -> None:
    def flood(connection: socket.socket, closing: threading.Event) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\n")
        while not closing.is_set():
            connection.sendall(b"X-A: " + b"b" * 1000 + b"\r\n")

    with raw_server(flood) as port:
        response = post_to(port, max_response_bytes=0)
    assert sum(len(value) for value in response.headers.values()) < MAX_HEAD_BYTES


def test_a_status_counts_although_the_body_never_comes() -> None:
    def promise_a_body(connection: socket.socket, closing: threading.Event) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\npart")
        closing.wait(30)

    with raw_server(promise_a_body) as port:
        assert post_to(port).status == 200


def test_an_answer_to_a_half_read_request_counts() -> None:
    def refuse(connection: socket.socket, closing: threading.Event) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        closing.wait(1)

    with raw_server(refuse) as port:
        response = post(f"http://127.0.0.1:{port}/", b"x" * 20_000_000, {}, allow=LOOPBACK_ALLOWED)
    assert response.status == 413


@pytest.mark.parametrize("garbage", [b"", b"SSH-2.0-OpenSSH_9.6\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\x00\xff" * 90])
def test_what_is_not_http_is_no_answer(garbage: bytes) -> None:
    def answer(connection: socket.socket, closing: threading.Event) -> None:
        read_request(connection)
        connection.sendall(garbage)

    with raw_server(answer) as port, pytest.raises(NoAnswer):
        post_to(port)


def test_a_closed_port_is_no_answer_and_the_message_says_so() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(NoAnswer, match="refused"):
            post_to(unused.getsockname()[1])


def test_the_next_address_is_tried_where_the_first_does_not_answer() -> None:
    with Receiver().serving() as receiver:
        target = resolve(receiver.url, LOOPBACK_ALLOWED)
        unreachable = resolve("http://127.99.99.99/", LOOPBACK_ALLOWED).addresses
        both = type(target)(target.url, unreachable + target.addresses)
        assert post(both, b"", {}, allow=LOOPBACK_ALLOWED).status == 200


def test_an_interrupted_post_ends_soon() -> None:
    interrupted = threading.Event()

    def interrupt(connection: socket.socket, closing: threading.Event) -> None:
        read_request(connection)
        interrupted.set()
        closing.wait(30)

    with raw_server(interrupt) as port:
        started = time.monotonic()
        with pytest.raises(Interrupted):
            post_to(port, timeout_s=60, interrupted=interrupted)
        assert time.monotonic() - started < 10


def test_a_line_break_in_a_header_is_refused() -> None:
    with Receiver().serving() as receiver:
        with pytest.raises(ValueError, match="line break"):
            post(receiver.url, b"", {"X-A": "b\r\nX-C: d"}, allow=LOOPBACK_ALLOWED)
        assert receiver.requests == []


# --- Answers that are odd -----------------------------------------------------------------------------------


def answering(*parts: bytes, forever: bytes = b"") -> Any:
    """A server that sends these bytes, then `forever` again and again."""

    def answer(connection: socket.socket, closing: threading.Event) -> None:
        read_request(connection)
        for part in parts:
            connection.sendall(part)
        while forever and not closing.is_set():
            connection.sendall(forever)

    return raw_server(answer)


@pytest.mark.parametrize("code", [100, 102, 103, 110, 199])
@pytest.mark.parametrize("final", [200, 410, 503])
def test_an_interim_answer_is_not_the_last_word(code: int, final: int) -> None:
    interim = f"HTTP/1.1 {code} Wait\r\nLink: </style.css>; rel=preload\r\n\r\n".encode()
    with answering(interim, interim, f"HTTP/1.1 {final} Done\r\nContent-Length: 2\r\n\r\nok".encode()) as port:
        response = post_to(port)
    assert response.status == final
    assert "link" not in response.headers


def test_101_is_final() -> None:
    with answering(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", OK) as port:
        assert post_to(port).status == 101


@pytest.mark.parametrize("code", [100, 102, 103])
def test_interim_answers_without_end_are_no_answer(code: int) -> None:
    with answering(forever=f"HTTP/1.1 {code} Wait\r\n\r\n".encode()) as port:
        started = time.monotonic()
        with pytest.raises(NoAnswer):
            post_to(port, timeout_s=30)
        assert time.monotonic() - started < 15


def test_an_interim_answer_with_nothing_after_it_ends_at_the_deadline() -> None:
    def answer(connection: socket.socket, closing: threading.Event) -> None:
        read_request(connection)
        connection.sendall(b"HTTP/1.1 102 Processing\r\n\r\n")
        closing.wait(30)

    with raw_server(answer) as port, pytest.raises(NoAnswer, match=r"no answer within 0\.5 s"):
        post_to(port, timeout_s=0.5)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nno colon here\r\n: no name\r\n\r\n",
        b"HTTP/1.1 200\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"f" * 60_000 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffffff\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\n\r\n" + b"x" * 30_000,
    ],
)
def test_once_the_status_is_known_a_broken_rest_changes_nothing(answer: bytes) -> None:
    with answering(answer) as port:
        response = post_to(port)
    assert response.status == 200


def test_204_with_a_body_is_still_204() -> None:
    with answering(b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello") as port:
        response = post_to(port)
    assert response.status == 204


def test_chunks_without_end_are_not_read_without_end() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with answering(head, forever=b"5\r\nhello\r\n") as port:
        response = post_to(port)
    assert response.status == 200


@pytest.mark.parametrize("status", [b"000", b"99", b"1000", b"-200", b"abc", b""])
def test_a_status_that_is_none_is_no_answer(status: bytes) -> None:
    with answering(b"HTTP/1.1 " + status + b" Odd\r\nContent-Length: 0\r\n\r\n") as port, pytest.raises(NoAnswer):
        post_to(port)


def test_999_is_a_status_and_no_success() -> None:
    with answering(b"HTTP/1.1 999 Odd\r\nContent-Length: 0\r\n\r\n") as port:
        assert post_to(port).status == 999


# --- TLS ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ca.pem, and localhost.pem / other.pem signed by it (key and certificate in one file)."""
    if shutil.which("openssl") is None:
        pytest.skip("the openssl command, which makes the certificates, is not installed")
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    openssl("req", "-x509", *new_key, "-keyout", "ca.key", "-out", "ca.pem", "-days", "2", "-subj", "/CN=ca")
    for name in ("localhost", "other.example"):
        (folder / "san.txt").write_text(f"subjectAltName=DNS:{name}\n")
        openssl("req", *new_key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        openssl(
            *("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"),
            *("-out", f"{name}.crt", "-days", "2", "-extfile", "san.txt"),
        )
    return folder


def serve_tls(authority: Path, name: str, seen_names: list[str | None], *, handshake: bool = True) -> Any:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / f"{name}.crt", authority / f"{name}.key")
    context.sni_callback = lambda _, server_name, __: seen_names.append(server_name)

    def answer(connection: Any, closing: threading.Event) -> None:
        if not handshake:
            closing.wait(30)
            return
        read_request(connection)
        connection.sendall(OK)

    def wrap(connection: socket.socket) -> Any:
        return context.wrap_socket(connection, server_side=True) if handshake else connection

    return raw_server(answer, wrap=wrap)


def trusting(authority: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority / "ca.pem")


def test_the_certificate_is_checked_for_the_host_name_while_the_address_is_connected_to(
    authority: Path,
) -> None:
    seen: list[str | None] = []
    with serve_tls(authority, "localhost", seen) as port:
        response = post(
            f"https://localhost:{port}/", b"{}", {}, allow=LOOPBACK_ALLOWED, ssl_context=trusting(authority)
        )
    assert response.status == 200
    assert seen == ["localhost"]


def test_a_certificate_for_another_name_is_no_answer(authority: Path) -> None:
    with serve_tls(authority, "other.example", []) as port, pytest.raises(NoAnswer, match=r"TLS.*[Hh]ostname"):
        post(f"https://localhost:{port}/", b"{}", {}, allow=LOOPBACK_ALLOWED, ssl_context=trusting(authority))


def test_a_certificate_for_a_name_is_not_one_for_its_address(authority: Path) -> None:
    with serve_tls(authority, "localhost", []) as port, pytest.raises(NoAnswer, match="TLS"):
        post(f"https://127.0.0.1:{port}/", b"{}", {}, allow=LOOPBACK_ALLOWED, ssl_context=trusting(authority))


def test_an_unknown_authority_is_no_answer(authority: Path) -> None:
    with serve_tls(authority, "localhost", []) as port, pytest.raises(NoAnswer, match="TLS"):
        post(f"https://localhost:{port}/", b"{}", {}, allow=LOOPBACK_ALLOWED)


def test_the_system_authorities_can_be_replaced_by_environment(
    authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    with serve_tls(authority, "localhost", []) as port:
        context = ssl.create_default_context()
        response = post(f"https://localhost:{port}/", b"{}", {}, allow=LOOPBACK_ALLOWED, ssl_context=context)
    assert response.status == 200


def test_a_handshake_that_hangs_is_cut_at_the_deadline(authority: Path) -> None:
    with serve_tls(authority, "localhost", [], handshake=False) as port:
        started = time.monotonic()
        with pytest.raises(NoAnswer, match="no answer within"):
            post(f"https://localhost:{port}/", b"{}", {}, allow=LOOPBACK_ALLOWED, timeout_s=0.4)
        assert time.monotonic() - started < 5


def test_plain_http_behind_an_https_url_is_no_answer() -> None:
    with Receiver().serving() as receiver, pytest.raises(NoAnswer, match="TLS"):
        post(f"https://127.0.0.1:{receiver.port}/", b"{}", {}, allow=LOOPBACK_ALLOWED)
