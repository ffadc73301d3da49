"""What a token began ends when the token is revoked or replaced; what others began goes on."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import pytest
import requests
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as connect_websocket

from api.auth import REMEMBER_S
from api.live.access_watch import CHECK_EVERY_S
from storage.access.scopes import Scope
from storage.access.tokens import create_token, revoke_token, rotate_token
from storage.postgres.database import Connection
from tests.clients.guarding import inputs
from tests.support.eventually import eventually
from tests.support.serving import Service

NOBODYS = "darkroom/nobody"  # no worker serves it, so that nothing ends by itself
PROMISED_S = 3.0  # docs/access.md
GIVE_UP_S = 90.0


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(20) as executor:
        yield executor


class Owner:
    """A token with a prediction that waits, and everything that it can have going at the same time."""

    def __init__(self, service: Service, conn: Connection, name: str, pool: ThreadPoolExecutor) -> None:
        self._service, self._conn, self._pool = service, conn, pool
        self.headers = {"Authorization": f"Bearer {create_token(conn, name)}"}
        made = self._post("/v1/predictions", {"model": NOBODYS, "input": inputs()})
        assert made.status_code == 201, made.text
        self.prediction: dict[str, Any] = made.json()

    def begin(self) -> tuple[dict[str, Future[Any]], dict[str, Future[Any]]]:
        """Streams and waiting requests: with the token, and by signed URL."""
        urls, token = self.prediction["urls"], self.headers
        web = urls["events"].replace("http://", "ws://").replace("/events?", "/ws?")
        own = f"{self._service.url}/v1/events"
        openais = {"model": NOBODYS, **inputs()}
        with_token: dict[str, Future[Any]] = {
            "events": self._pool.submit(self._stream, f"{urls['get']}/events", token),
            "ws": self._pool.submit(_close_code, f"{urls['get']}/ws".replace("http://", "ws://"), token),
            "own events": self._pool.submit(self._stream, own, token),
            "own ws": self._pool.submit(_close_code, f"{own}/ws".replace("http://", "ws://"), token),
            "wait": self._pool.submit(self._post, "/v1/predictions", {"model": NOBODYS, "input": inputs()}, wait=True),
            "openai": self._pool.submit(self._post, "/v1/images/generations", openais),
            "openai stream": self._pool.submit(self._post, "/v1/images/generations", openais | {"stream": True}),
        }
        signed: dict[str, Future[Any]] = {
            "events": self._pool.submit(self._stream, urls["events"], {}),
            "stream": self._pool.submit(self._stream, urls["stream"], {}),
            "ws": self._pool.submit(_close_code, web, {}),
        }
        return with_token, signed

    def statuses(self) -> dict[str, int]:
        """Of its predictions, in Postgres: how many are in which state."""
        rows = self._conn.execute(
            "SELECT status, count(*) AS n FROM predictions"
            " WHERE token_id = (SELECT token_id FROM predictions WHERE id = %s) GROUP BY status",
            (self.prediction["id"],),
        )
        return {row["status"]: row["n"] for row in rows}

    def _post(self, path: str, body: dict[str, Any], *, wait: bool = False) -> requests.Response:
        headers = self.headers | ({"Prefer": "wait=60"} if wait else {})
        return requests.post(f"{self._service.url}{path}", json=body, headers=headers, timeout=GIVE_UP_S)

    def _stream(self, url: str, headers: dict[str, str]) -> str:
        return _text_of_stream(url, headers)


def _close_code(url: str, headers: dict[str, str]) -> int:
    with connect_websocket(url, additional_headers=headers, proxy=None) as socket:
        with suppress(ConnectionClosed):
            while True:
                socket.recv(timeout=GIVE_UP_S)
        assert socket.close_code is not None
        return socket.close_code


def _text_of_stream(url: str, headers: dict[str, str]) -> str:
    with requests.get(url, headers=headers, stream=True, timeout=GIVE_UP_S) as answer:
        assert answer.status_code == 200, answer.text
        give_up_at, text = time.monotonic() + GIVE_UP_S, ""
        for line in answer.iter_lines(decode_unicode=True):  # a ping comes every 15 s
            text += f"{line}\n"
            assert time.monotonic() < give_up_at, f"the stream goes on: {text}"
        return text


def held(service: Service, conn: Connection) -> tuple[int, int]:
    """The open streams and the waiting requests of the API."""
    headers = {"Authorization": f"Bearer {create_token(conn, secrets.token_hex(4), scopes=[Scope.METRICS])}"}
    page = requests.get(f"{service.url}/metrics", headers=headers, timeout=30).text.splitlines()
    samples = dict(line.split() for line in page if line.startswith("darkroom_api_"))
    return int(float(samples["darkroom_api_streams_open"])), int(float(samples["darkroom_api_waits_open"]))


def test_a_token_that_is_revoked_ends_all_that_it_began_and_its_signed_streams(
    guarded: Service, database: Connection, pool: ThreadPoolExecutor
) -> None:
    revoked, other = Owner(guarded, database, "revoked", pool), Owner(guarded, database, "other", pool)
    with_token, signed = revoked.begin()
    others, others_signed = other.begin()
    eventually(lambda: held(guarded, database) >= (16, 4))
    revoke_token(database, "revoked")

    assert "event: queued" in with_token["events"].result(60)
    assert with_token["ws"].result(60) == 1008
    assert "event: ready" in with_token["own events"].result(60)
    assert with_token["own ws"].result(60) == 1008
    assert with_token["wait"].result(60).status_code == 401
    assert with_token["openai"].result(60).status_code == 401
    assert '"error"' in with_token["openai stream"].result(60).text
    assert "event: queued" in signed["events"].result(60)
    assert signed["ws"].result(60) == 1008
    for text in (with_token["events"].result(), signed["events"].result(), signed["stream"].result(60)):
        assert "event: done" not in text
    # What only the request itself could have answered is given up; the others are what `tokens revoke` decides.
    eventually(lambda: revoked.statuses() == {"canceled": 2, "starting": 2})

    for name in ("events", "stream"):  # and none of them begins again
        again = requests.get(revoked.prediction["urls"][name], timeout=30)
        assert again.status_code == 403
        assert "revoked" in again.json()["detail"]

    assert not any(each.done() for each in (*others.values(), *others_signed.values()))
    url = f"{guarded.url}/v1/predictions"
    for each in requests.get(url, headers=other.headers, timeout=30).json()["results"]:
        requests.post(each["urls"]["cancel"], headers=other.headers, timeout=30).raise_for_status()
    assert "event: done" in others["events"].result(60)
    assert "event: done" in others_signed["stream"].result(60)
    assert others_signed["ws"].result(60) == 1000
    assert others["wait"].result(60).status_code == 201
    assert not others["own events"].done()
    assert not others["own ws"].done()
    revoke_token(database, "other")
    assert '"status":"canceled"' in others["own events"].result(60)
    assert others["own ws"].result(60) == 1008


def test_a_token_that_is_replaced_ends_what_its_old_secret_began_and_keeps_its_signed_urls(
    guarded: Service, database: Connection, pool: ThreadPoolExecutor
) -> None:
    owner = Owner(guarded, database, "replaced", pool)
    with_token, signed = owner.begin()
    eventually(lambda: held(guarded, database) >= (8, 2))
    owner.headers = {"Authorization": f"Bearer {rotate_token(database, 'replaced')}"}
    for ended in with_token.values():
        ended.result(60)
    assert with_token["ws"].result() == 1008
    assert with_token["wait"].result().status_code == 401
    assert not any(each.done() for each in signed.values())
    requests.post(owner.prediction["urls"]["cancel"], headers=owner.headers, timeout=30).raise_for_status()
    assert "event: done" in signed["events"].result(60)


def test_the_first_token_ends_what_began_while_the_api_was_open(
    services: Any, tmp_path: Any, pool: ThreadPoolExecutor
) -> None:
    from storage.postgres.database import connect
    from tests.support.serving import serving

    with (
        serving(services, tmp_path, workers=False) as service,
        connect(service.settings.database_url, application_name="test") as conn,
    ):
        body = {"model": NOBODYS, "input": inputs()}
        made = requests.post(f"{service.url}/v1/predictions", json=body, timeout=30).json()
        url = f"{made['urls']['get']}/events"
        stream = pool.submit(_text_of_stream, url, {})
        page = f"{service.url}/metrics"
        eventually(lambda: "darkroom_api_streams_open 1.0" in requests.get(page, timeout=30).text)
        create_token(conn, "first")
        assert "event: done" not in stream.result(60)


def test_a_request_that_a_revoked_token_could_still_begin_ends_within_what_is_promised() -> None:
    """A token is believed for a while, and what it begins meanwhile is looked at after a while."""
    assert REMEMBER_S + CHECK_EVERY_S <= PROMISED_S - 0.5
