"""Pictures by URL: no stranger's URL leads into this network, and no server keeps the API busy or fills its memory."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from api.settings import ApiSettings
from storage.postgres.database import Connection
from tests.hostile_urls import NOT_A_URL, NOT_PUBLIC
from tests.pictures import CATALOG, file_of, picture
from tests.support.api_app import post, problem, serving
from tests.support.making import count
from tests.support.receivers import Answer, Receiver, raw_server

RED = file_of(picture())
MAX_BYTES = 50_000


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    path = tmp_path / "models.toml"
    path.write_text(CATALOG)
    return path


@pytest.fixture
def api_settings(settings: ApiSettings, catalog: Path) -> ApiSettings:
    return settings.model_copy(
        update={"models": catalog, "input_image_timeout_s": 60.0, "max_input_image_bytes": MAX_BYTES}
    )


@pytest.fixture
def allowing(api_settings: ApiSettings) -> Iterator[FlaskClient]:
    """A client of an API that fetches from this machine."""
    with serving(api_settings.model_copy(update={"input_image_allow": "127.0.0.1"})) as app:
        yield app.test_client()


@pytest.fixture
def hurried(api_settings: ApiSettings) -> Iterator[FlaskClient]:
    """The same, which gives servers little time."""
    update = {"input_image_allow": "127.0.0.1", "input_image_timeout_s": 1.0}
    with serving(api_settings.model_copy(update=update)) as app:
        yield app.test_client()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


def refusal(client: FlaskClient, url: str) -> str:
    refused = problem(post(client, input={"prompt": "a", "image": url}), 422)
    assert refused["invalid_fields"][0]["field"] == "input.image"
    return str(refused["detail"])


def test_sixty_hostile_urls_are_422_and_nothing_connects(
    client: FlaskClient, receiver: Receiver, conn: Connection
) -> None:
    urls = [url.replace("{port}", str(receiver.port)) for url in (*NOT_PUBLIC, *NOT_A_URL)]
    assert len(urls) >= 60
    for url in urls:
        if url:  # an empty one is none
            assert refusal(client, url), url
            https = url.replace("http://", "https://", 1)
            assert refusal(client, https), https
    assert receiver.requests == []
    assert count(conn, "predictions") == 0


def test_denied_servers_are_not_asked_whatever_is_allowed(allowing: FlaskClient, api_settings: ApiSettings) -> None:
    for url in (f"{api_settings.s3_endpoint_url}/{api_settings.s3_bucket}/x", f"{api_settings.public_url}/v1/account"):
        assert "never sent to its own servers" in refusal(allowing, url)


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("http://10.0.0.1/a.png", "INPUT_IMAGE_ALLOW=10.0.0.1"),
        ("http://169.254.169.254/latest/meta-data/", "INPUT_IMAGE_ALLOW=169.254.169.254"),
        ("https://[::1]/a.png", "INPUT_IMAGE_ALLOW=::1"),
        ("file:///etc/passwd", "must start with https://"),
        ("ftp://127.0.0.1/a.png", "must start with https://"),
        ("http://user:secret@127.0.0.1/", "must not contain a user name"),
        ("//8.8.8.8:25/", "port 25"),
        ("http://8.8.8.8/a.png", "must start with https://"),
    ],
)
def test_each_redirect_is_judged(allowing: FlaskClient, receiver: Receiver, location: str, words: str) -> None:
    receiver.answer = lambda _: Answer(302, {"Location": location})
    assert words in refusal(allowing, receiver.url)
    assert len(receiver.requests) == 1


def test_three_redirects_are_followed_and_a_fourth_is_not(allowing: FlaskClient, receiver: Receiver) -> None:
    receiver.answer = lambda request: (
        Answer(200, {}, RED) if request.path == "/3" else Answer(307, {"Location": f"/{int(request.path[1:]) + 1}"})
    )
    base = f"http://127.0.0.1:{receiver.port}"
    assert post(allowing, input={"prompt": "a", "image": f"{base}/0"}).status_code == 201
    receiver.answer = lambda request: Answer(302, {"Location": f"{request.path}x"})
    assert "more than 3 redirects" in refusal(allowing, f"{base}/0")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(404, {}, RED), "answered 404"),
        (Answer(204), "answered 204"),
        (Answer(401, {"WWW-Authenticate": "Basic"}), "answered 401"),
        (Answer(302), "answered 302"),
        (Answer(200, {"Content-Encoding": "gzip"}, RED), "compressed"),
        (Answer(200, {}, b"\0" * (MAX_BYTES + 1)), f"at most {MAX_BYTES} are allowed"),
        (Answer(200, {"Content-Type": "image/png"}, b"<html>"), "is an HTML file"),
        (Answer(200, {}, b""), "is empty"),
    ],
)
def test_what_is_no_picture_is_422_with_what_came_instead(
    allowing: FlaskClient, receiver: Receiver, answer: Answer, words: str
) -> None:
    receiver.answer = lambda _: answer
    assert words in refusal(allowing, receiver.url)


def endless(connection: socket.socket, closing: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not closing.is_set():
        connection.sendall(b"x" * 10_000)


def chunks_without_end(connection: socket.socket, closing: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while not closing.is_set():
        connection.sendall(b"1\r\nx\r\n" * 1000)


def dripping(connection: socket.socket, closing: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    while not closing.wait(0.2):
        connection.sendall(b"x")


def cut(connection: socket.socket, _: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")


def negative_chunk(connection: socket.socket, _: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n")


def no_http(connection: socket.socket, _: threading.Event) -> None:
    connection.recv(65536)
    connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")


@pytest.mark.parametrize(
    ("behave", "words"),
    [
        (endless, f"more than {MAX_BYTES} bytes"),
        (chunks_without_end, "not an HTTP answer"),  # six times as much framing as file
        (cut, "bytes of the file are missing"),
        (negative_chunk, "not HTTP"),
        (no_http, "not an HTTP answer"),
    ],
)
def test_a_hostile_server_ends_with_its_reason(allowing: FlaskClient, behave: object, words: str) -> None:
    with raw_server(behave) as port:  # type: ignore[arg-type]
        assert words in refusal(allowing, f"http://127.0.0.1:{port}/")


def test_a_server_that_takes_its_time_is_left_at_the_deadline(hurried: FlaskClient, receiver: Receiver) -> None:
    receiver.answer = lambda _: Answer(200, {}, RED, delay_s=600)
    assert "no answer within 1 s" in refusal(hurried, receiver.url)
    with raw_server(dripping) as port:
        assert "no answer within 1 s" in refusal(hurried, f"http://127.0.0.1:{port}/")


def test_no_more_than_the_allowed_number_is_fetched_at_once(api_settings: ApiSettings, receiver: Receiver) -> None:
    update = {"input_image_allow": "127.0.0.1", "api_max_fetches": 1, "input_image_timeout_s": 20.0}
    going_on = threading.Event()

    def answer(_: object) -> Answer:
        going_on.wait(20)
        return Answer(200, {}, RED)

    receiver.answer = answer
    with serving(api_settings.model_copy(update=update)) as app:
        first: list[int] = []

        def fetch() -> None:
            first.append(post(app.test_client(), input={"prompt": "a", "image": receiver.url}).status_code)

        thread = threading.Thread(target=fetch)
        thread.start()
        while not app.extensions["darkroom"].fetching.taken:
            pass
        refused = post(app.test_client(), input={"prompt": "a", "image": receiver.url})
        going_on.set()
        thread.join()
    assert problem(refused, 503)["title"] == "Too many fetches"
    assert refused.headers["Retry-After"] == "5"
    assert first == [201]
