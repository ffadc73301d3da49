"""Large bodies over a real socket: who may send them, and what many at once take."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest
import requests
from PIL import Image

from api.pictures.memory import MAX_WAIT_S
from storage.access.scopes import Scope
from storage.access.tokens import create_token
from storage.postgres.database import connect
from tests.conftest import RunningServices
from tests.pictures import data_url, file_of
from tests.support.api_memory import memory_growth
from tests.support.eventually import eventually
from tests.support.serving import Service, serving

MAX_BODY_BYTES = 64 * 1024
AT_ONCE = 64
# Decoding takes at most 12 bytes for each of 4 million pixels. The rest is for parts of uploads, Python and malloc.
MAX_PIXELS = 4_000_000
MAX_GROWTH_BYTES = 150 * 2**20  # it was 46 when this was written


@pytest.fixture(scope="module")
def service(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("uploads")
    with serving(services, folder, workers=False, max_input_image_pixels=MAX_PIXELS, api_log=folder / "log") as running:
        yield running
    assert "Traceback" not in (folder / "log").read_text()


@pytest.fixture(scope="module")
def draws(service: Service) -> dict[str, str]:
    return bearer(service, "draws")


def bearer(service: Service, name: str, **more: Any) -> dict[str, str]:
    with connect(service.settings.database_url, application_name="test") as conn:
        return {"Authorization": f"Bearer {create_token(conn, name, **more)}"}


def noise(width: int, height: int, **options: Any) -> bytes:
    return file_of(Image.effect_noise((width, height), 60).convert("RGB"), "JPEG", **options)


def request(image: str) -> bytes:
    return json.dumps({"model": "darkroom/blank", "input": {"prompt": "a", "image": image}}).encode()


def sent(service: Service, body: bytes, headers: dict[str, str], path: str = "/v1/predictions") -> tuple[int, Any]:
    answer = requests.post(
        f"{service.url}{path}", data=body, headers=headers | {"Content-Type": "application/json"}, timeout=120
    )
    return answer.status_code, answer.json()


def test_only_who_may_draw_can_send_a_large_body(service: Service, draws: dict[str, str]) -> None:
    body = request(data_url(noise(512, 512, quality=95), "image/jpeg"))
    assert len(body) > MAX_BODY_BYTES
    assert sent(service, body, draws)[0] == 201
    for headers in ({}, {"Authorization": "Bearer dr_wrong"}, {"Authorization": "Bearer"}):
        assert status_before_the_body(service, headers, len(body)) == 401
    reads = bearer(service, "reads", scopes={Scope.READ})
    assert status_before_the_body(service, reads, len(body)) == 403
    assert status_before_the_body(service, draws, service.settings.max_upload_bytes + 1) == 413
    assert status_before_the_body(service, draws, len(body), path="/v1/images/generations") == 413


def status_before_the_body(
    service: Service, headers: dict[str, str], length: int, path: str = "/v1/predictions"
) -> int:
    """The answer to a head whose body is never sent."""
    with closing(http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=60)) as connection:
        connection.putrequest("POST", path)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(length)}.items():
            connection.putheader(name, value)
        connection.endheaders()
        return connection.getresponse().status


def test_a_large_chunked_body_is_taken_too(service: Service, draws: dict[str, str]) -> None:
    body = request(data_url(noise(512, 512, quality=95), "image/jpeg"))
    answer = requests.post(
        f"{service.url}/v1/predictions",
        data=(body[at : at + 10_000] for at in range(0, len(body), 10_000)),
        headers=draws | {"Content-Type": "application/json"},
        timeout=60,
    )
    assert answer.status_code == 201, answer.text


def test_the_client_that_waits_for_100_continue_gets_it(service: Service, draws: dict[str, str]) -> None:
    body = request(data_url(noise(512, 512, quality=95), "image/jpeg"))
    with closing(http.client.HTTPConnection(service.url.removeprefix("http://"), timeout=60)) as connection:
        connection.putrequest("POST", "/v1/predictions")
        told = {"Expect": "100-continue", "Content-Type": "application/json", "Content-Length": str(len(body))}
        for name, value in (draws | told).items():
            connection.putheader(name, value)
        connection.endheaders()
        assert connection.sock.recv(100).startswith(b"HTTP/1.1 100 Continue")
        connection.send(body)
        assert connection.getresponse().status == 201


def test_memory_stays_bounded_with_64_uploads_at_once(service: Service, draws: dict[str, str]) -> None:
    """64 pictures of 4 million pixels and 2 MB: decoded together they would take 768 MB, and 260 MB as text."""
    body = request(data_url(noise(2000, 2000, quality=85), "image/jpeg"))
    assert sent(service, body, draws)[0] == 201
    with memory_growth(service) as growth, ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = list(pool.map(lambda _: status_in_the_end(service, body, draws), range(AT_ONCE)))
    assert statuses == [201] * AT_ONCE
    assert growth.peak < MAX_GROWTH_BYTES


def status_in_the_end(service: Service, body: bytes, headers: dict[str, str]) -> int:
    """The status for a client that tries again after a 503.

    On a busy machine, some requests wait for memory for longer than they may. None is refused earlier.
    """
    status = 0

    def answered() -> bool:
        nonlocal status
        began_at = time.monotonic()
        status, answer = sent(service, body, headers)
        if status == 503:
            assert answer["title"] == "Too many pictures"
            assert time.monotonic() - began_at >= MAX_WAIT_S
        return status != 503

    eventually(answered, every_s=5.0)
    return status
