"""Access by token: who is let in, what is theirs, and when the doors are open."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import auth
from api.settings import ApiSettings
from storage.access.token_format import new_token
from storage.access.tokens import create_token, list_tokens, revoke_token, rotate_token
from storage.errors import OperatorError
from storage.postgres.database import Connection
from tests.support.api_app import post, problem, serving, submit
from tests.support.making import count


@pytest.fixture(autouse=True)
def _forget_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBER_S", 0.0)


@pytest.fixture
def guarded(api_settings: ApiSettings) -> Iterator[Flask]:
    with serving(api_settings.model_copy(update={"auth": "tokens"})) as app:
        yield app


def bearer(token: str, scheme: str = "Bearer") -> dict[str, str]:
    return {"Authorization": f"{scheme} {token}"}


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Token"])
def test_a_token_lets_in_under_either_scheme(guarded: Flask, conn: Connection, scheme: str) -> None:
    made = submit(guarded.test_client(), headers=bearer(create_token(conn, "n8n"), scheme))
    assert count(conn, "predictions", f"id = '{made['id']}' AND token_id = (SELECT id FROM tokens)") == 1


def test_without_a_token_that_is_known_every_route_is_401(guarded: Flask, conn: Connection) -> None:
    client = guarded.test_client()
    for headers in (
        {},
        {"Authorization": "dr_x"},
        {"Authorization": "Basic dXNlcjpwYXNz"},
        {"Authorization": "Bearer"},
        bearer("r8_anothers"),
        bearer("dr_" + "0" * 38),  # a wrong checksum
        bearer(new_token()),  # one that nobody was given
    ):
        answer = post(client, headers=headers)
        problem(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        for path in ("/v1/predictions", "/predictions/x", "/v1/webhooks/default/secret", "/metrics"):
            problem(client.get(path, headers=headers), 401)
    assert count(conn, "predictions") == 0


def test_what_tells_nothing_needs_no_token(guarded: Flask) -> None:
    client = guarded.test_client()
    assert client.get("/healthz").status_code == 200
    assert client.get("/").status_code == 200
    assert client.get("/v1/nothing").status_code == 404


def test_every_view_is_closed_unless_it_says_that_it_is_open(app: Flask) -> None:
    open_ = {rule.rule for rule in app.url_map.iter_rules() if hasattr(app.view_functions[rule.endpoint], auth.OPEN)}
    assert not {rule for rule in open_ if "predictions" in rule and "stream" not in rule}
    assert {"/healthz", "/readyz", "/"} <= open_


def test_a_prediction_is_404_for_everybody_but_its_owner(guarded: Flask, conn: Connection) -> None:
    client = guarded.test_client()
    mine, others = bearer(create_token(conn, "mine")), bearer(create_token(conn, "others"))
    made = submit(client, headers=mine)
    path = f"/v1/predictions/{made['id']}"
    assert client.get(path, headers=mine).status_code == 200
    unknown = problem(client.get(path, headers=others), 404)
    assert unknown == problem(client.get(path, headers=others), 404)
    problem(client.post(f"{path}/cancel", headers=others), 404)
    assert client.get(path, headers=mine).get_json()["status"] == "starting"
    assert client.get("/v1/predictions", headers=others).get_json()["results"] == []
    assert len(client.get("/v1/predictions", headers=mine).get_json()["results"]) == 1


def test_a_revoked_token_is_refused_and_a_rotated_one_keeps_its_predictions(guarded: Flask, conn: Connection) -> None:
    client = guarded.test_client()
    old = create_token(conn, "app")
    made = submit(client, headers=bearer(old))
    new = rotate_token(conn, "app")
    problem(client.get("/v1/predictions", headers=bearer(old)), 401)
    assert client.get(f"/v1/predictions/{made['id']}", headers=bearer(new)).status_code == 200
    revoke_token(conn, "app")
    problem(client.get("/v1/predictions", headers=bearer(new)), 401)
    with pytest.raises(OperatorError, match="no token 'app'"):
        rotate_token(conn, "app")


def test_a_token_is_remembered_for_three_seconds_at_most(
    guarded: Flask, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert auth.REMEMBER_AT_MOST > 0
    monkeypatch.setattr(auth, "REMEMBER_S", 3.0)
    client, token = guarded.test_client(), create_token(conn, "app")
    assert client.get("/v1/predictions", headers=bearer(token)).status_code == 200
    revoke_token(conn, "app")
    assert client.get("/v1/predictions", headers=bearer(token)).status_code == 200
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 3.1)
    problem(client.get("/v1/predictions", headers=bearer(token)), 401)


def test_the_first_token_closes_an_open_api_and_revoking_it_does_not_open_it(
    client: FlaskClient, conn: Connection
) -> None:
    before = submit(client)
    token = create_token(conn, "first")
    problem(post(client), 401)
    problem(client.get(f"/v1/predictions/{before['id']}", headers=bearer(token)), 404)
    revoke_token(conn, "first")
    problem(post(client), 401)


def test_auth_none_is_open_whatever_tokens_there_are(api_settings: ApiSettings, conn: Connection) -> None:
    create_token(conn, "first")
    with serving(api_settings.model_copy(update={"auth": "none"})) as app:
        assert post(app.test_client()).status_code == 201


def test_only_a_digest_is_kept_and_no_log_shows_a_token(
    guarded: Flask, conn: Connection, caplog: pytest.LogCaptureFixture
) -> None:
    token = create_token(conn, "app")
    caplog.set_level(logging.DEBUG)
    submit(guarded.test_client(), headers=bearer(token))
    row = conn.execute("SELECT to_jsonb(tokens)::text AS text FROM tokens").fetchone()
    assert row is not None
    assert token not in row["text"]
    assert token[10:] not in caplog.text
    (listed,) = list_tokens(conn)
    assert "digest" not in listed
    assert listed["last_used_at"] is not None


def test_a_name_is_taken_once(conn: Connection) -> None:
    create_token(conn, "app")
    with pytest.raises(OperatorError, match="tokens rotate"):
        create_token(conn, "app")
