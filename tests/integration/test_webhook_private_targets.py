"""A token that aims webhooks at the operator's network learns nothing of what stands there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg_pool import ConnectionPool

from api.settings import ApiSettings
from courier.deliver import Deliverer
from courier.slots import Slots
from storage.access import signing_keys
from storage.access.sealing import IN_THE_CLEAR
from storage.access.tokens import create_token
from storage.postgres.clock import DatabaseClock
from storage.postgres.database import Connection, open_pool
from storage.settings import Settings
from storage.webhooks.allowed_targets import AllowedTargets
from tests.integration.deliveries_of import BODY, insert_prediction, read, write
from tests.support.api_app import post, problem, serving, submit
from tests.support.receivers import Answer, Receiver, raw_server


@pytest.fixture
def pool(settings: Settings, conn: Connection) -> Iterator[ConnectionPool[Connection]]:
    signing_keys.ensure_keys(conn, IN_THE_CLEAR)
    with open_pool(settings, application_name="test-courier", size=4) as pool:
        yield pool


@pytest.fixture
def guarded(api_settings: ApiSettings) -> Iterator[Flask]:
    with serving(api_settings.model_copy(update={"auth": "tokens"})) as app:
        yield app


def deliverer_of(pool: ConnectionPool[Connection], settings: Settings, *, timeout_s: float = 1.0) -> Deliverer:
    return Deliverer(
        pool=pool,
        clock=DatabaseClock(pool),
        sealer=IN_THE_CLEAR,
        targets=AllowedTargets.of(settings),
        schedule_s=(0.0, 300.0, 300.0),
        timeout_s=timeout_s,
        slots=Slots(16),
    )


def closed_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def hang(_: Any, closing: threading.Event) -> None:
    closing.wait(5)


def speak_ssh(connection: socket.socket, _: threading.Event) -> None:
    connection.sendall(b"SSH-2.0\r\n")


def test_a_token_is_told_of_a_private_target_only_whether_it_was_delivered(
    guarded: Flask, conn: Connection, pool: ConnectionPool[Connection], settings: Settings
) -> None:
    """Open ports, closed ones, ones that hang, ones that speak something else, and every status look the same."""
    headers = {"Authorization": f"Bearer {create_token(conn, 'n8n')}"}
    client = guarded.test_client()
    courier = deliverer_of(pool, settings)
    made = submit(client, headers=headers)["id"]
    urls = {"closed": f"http://127.0.0.1:{closed_port()}/", "refused": "http://10.255.255.1/"}
    with (
        raw_server(hang) as hangs,
        raw_server(speak_ssh) as ssh,
    ):
        urls |= {"hangs": f"http://127.0.0.1:{hangs}/", "ssh": f"http://127.0.0.1:{ssh}/"}
        ids = {name: write(conn, url, prediction_id=made) for name, url in urls.items()}
        courier.deliver_due()
    for status in (301, 401, 404, 410, 500):
        with Receiver().serving() as receiver:
            receiver.answers(Answer(status, {"Retry-After": "400"}))
            ids[str(status)] = write(conn, receiver.url, prediction_id=made)
            courier.deliver_due()
    once = write(conn, urls["closed"], prediction_id=made, event="start")  # tried once: given up already
    courier.deliver_due()
    ids["once"] = once

    own = ("id", "prediction_id", "event", "url", "created_at")
    told = [_get(client, each, headers) for each in ids.values()]
    for each in told:
        rest = {name: value for name, value in each.items() if name not in own}
        assert rest == {
            "status": "not_delivered",
            "attempts": None,
            "next_attempt_at": None,
            "last_attempt_at": None,
            "last_status": None,
            "last_error": None,
            "delivered_at": None,
        }
    listed = client.get("/v1/webhook_deliveries?status=not_delivered", headers=headers).get_json()["results"]
    assert {each["id"] for each in listed} == set(ids.values())
    assert all(each in told for each in listed)
    for hidden in ("failed", "pending"):
        assert client.get(f"/v1/webhook_deliveries?status={hidden}", headers=headers).get_json()["results"] == []
    # The operator sees all of it, in the database and with the command.
    assert "refused" in read(conn, ids["closed"])["last_error"]
    assert read(conn, ids["410"])["last_status"] == 410


def test_it_is_told_that_a_private_target_took_it_and_not_with_which_status(
    guarded: Flask, conn: Connection, pool: ConnectionPool[Connection], settings: Settings
) -> None:
    headers = {"Authorization": f"Bearer {create_token(conn, 'n8n')}"}
    client = guarded.test_client()
    with Receiver().serving() as receiver:
        receiver.answers(Answer(204))
        delivery_id = write(conn, receiver.url, prediction_id=submit(client, headers=headers)["id"])
        deliverer_of(pool, settings).deliver_due()
        assert receiver.requests[0].body == BODY.encode()
    told = _get(client, delivery_id, headers)
    assert (told["status"], told["last_status"], told["attempts"]) == ("delivered", None, None)
    assert told["delivered_at"] is not None
    replayed = client.post(f"/v1/webhook_deliveries/{delivery_id}/replay", headers=headers).get_json()
    assert (replayed["status"], replayed["attempts"]) == ("not_delivered", None)


def test_the_record_changes_before_anything_is_sent_so_its_moment_tells_nothing(
    guarded: Flask, conn: Connection, pool: ConnectionPool[Connection], settings: Settings
) -> None:
    headers = {"Authorization": f"Bearer {create_token(conn, 'n8n')}"}
    client = guarded.test_client()
    seen: list[str] = []
    made = submit(client, headers=headers)["id"]
    with Receiver().serving() as receiver:
        delivery_id = write(conn, receiver.url, prediction_id=made)

        def look(_: object) -> Answer:
            seen.append(_get(client, delivery_id, headers)["status"])
            return Answer(500)

        receiver.answer = look
        assert _get(client, delivery_id, headers)["status"] == "pending"
        deliverer_of(pool, settings, timeout_s=10).deliver_due()
    assert seen == ["not_delivered"]
    assert _get(client, delivery_id, headers)["status"] == "not_delivered"


def test_where_the_api_is_open_its_users_see_why(
    client: FlaskClient, conn: Connection, pool: ConnectionPool[Connection], settings: Settings
) -> None:
    delivery_id = write(conn, f"http://127.0.0.1:{closed_port()}/")
    deliverer_of(pool, settings).deliver_due()
    assert "refused" in _get(client, delivery_id, {})["last_error"]


def test_a_name_that_led_elsewhere_at_submission_does_not_reach_our_servers_later(
    conn: Connection, pool: ConnectionPool[Connection], settings: Settings
) -> None:
    """The attempt judges again; the S3 server of the settings is one of those that are never reached."""
    assert settings.s3_endpoint_url is not None
    port = settings.s3_endpoint_url.rpartition(":")[2]
    for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
        delivery_id = write(conn, f"http://{host}:{port}/bucket?delete", prediction_id=insert_prediction(conn))
        more = settings.model_copy(update={"webhook_allow": "127.0.0.0/8,::1,localhost"})
        deliverer_of(pool, more).deliver_due()
        assert "never sent to its own servers" in read(conn, delivery_id)["last_error"]


def test_a_post_that_aims_at_our_servers_is_422_whatever_is_allowed(api_settings: ApiSettings) -> None:
    settings = api_settings.model_copy(
        update={
            "webhook_allow": "0.0.0.0/0,::/0,localhost",
            "webhook_deny": "127.0.0.1:18080",
            "public_url": "http://[::1]:18081",
        }
    )
    assert settings.s3_endpoint_url is not None
    s3_port = settings.s3_endpoint_url.rpartition(":")[2]
    with serving(settings) as app:
        client = app.test_client()
        for host in ("127.0.0.1", "127.0.0.9", "localhost", "[::]", "[::1]", "[::ffff:127.0.0.1]"):
            for port in (s3_port, 18080, 18081):
                body = problem(post(client, webhook=f"http://{host}:{port}/"), 422)
                assert "its own servers" in body["detail"]
            submit(client, webhook=f"http://{host}:18082/")


def test_a_post_whose_webhook_names_no_host_is_422_in_the_words_of_a_private_one(
    api_settings: ApiSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    look_up = socket.getaddrinfo

    def getaddrinfo(host: str, *more: Any, **others: Any) -> Any:
        """As a name server answers; a machine without one says that it is out of order."""
        if host == "nobody.invalid":
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return look_up(host, *more, **others)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with serving(api_settings.model_copy(update={"webhook_allow": ""})) as app:
        client = app.test_client()
        details = {
            host: problem(post(client, webhook=f"http://{host}/"), 422)["detail"]
            for host in ("localhost", "nobody.invalid")
        }
    assert details["nobody.invalid"] == details["localhost"].replace("localhost", "nobody.invalid")
    assert "doesn't exist, or resolves to an address that is not public" in details["localhost"]


def test_the_first_token_ends_what_was_allowed_while_open_also_for_what_waits(
    api_settings: ApiSettings, conn: Connection, pool: ConnectionPool[Connection], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.auth.REMEMBER_S", 0.0)
    settings = api_settings.model_copy(update={"webhook_allow": "", "webhook_allow_while_open": "127.0.0.0/8"})
    courier = deliverer_of(pool, settings)
    with serving(settings) as app, Receiver().serving() as receiver:
        client = app.test_client()
        submit(client, webhook=receiver.url)
        write(conn, receiver.url)
        courier.deliver_due()
        assert len(receiver.requests) == 1
        after = write(conn, receiver.url)
        headers = {"Authorization": f"Bearer {create_token(conn, 'n8n')}"}
        assert "WEBHOOK_ALLOW=127.0.0.1" in problem(post(client, webhook=receiver.url, headers=headers), 422)["detail"]
        courier.deliver_due()
        assert len(receiver.requests) == 1
        assert "not public" in read(conn, after)["last_error"]


def _get(client: FlaskClient, delivery_id: str, headers: dict[str, str]) -> dict[str, Any]:
    answer = client.get(f"/v1/webhook_deliveries/{delivery_id}", headers=headers)
    assert answer.status_code == 200, answer.text
    return dict(answer.get_json())
