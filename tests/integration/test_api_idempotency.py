"""Idempotency-Key: sent twice, made once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import auth
from storage.access.tokens import create_token
from storage.postgres.database import Connection
from storage.predictions.finish import finish
from storage.predictions.render import Renderer
from tests.support.api_app import MODEL, post, problem, submit
from tests.support.making import claim_one, count, succeeded

KEY = {"Idempotency-Key": "order-17"}


def test_the_same_request_again_is_the_same_prediction_as_it_is_by_now(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    first = submit(client, headers=KEY)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
    for headers in (KEY, KEY | {"Prefer": "wait=5"}):
        again = submit(client, headers=headers)
        assert again["id"] == first["id"]
        assert again["status"] == "succeeded"
        assert len(again["output"]) == 1
    assert count(conn, "predictions") == 1
    assert count(conn, "procrastinate_jobs") == 0


def test_the_order_of_the_keys_in_the_body_makes_no_difference(client: FlaskClient) -> None:
    bodies = [
        '{"model": "darkroom/blank", "input": {"prompt": "a", "seed": 1}}',
        '{"input":{"seed":1,"prompt":"a"},"model":"darkroom/blank"}',
    ]
    ids = {
        client.post("/v1/predictions", data=body, headers=KEY, content_type="application/json").get_json()["id"]
        for body in bodies
    }
    assert len(ids) == 1


def test_another_body_or_route_under_the_same_key_is_422(client: FlaskClient, conn: Connection) -> None:
    first = submit(client, headers=KEY)
    told = problem(post(client, headers=KEY, input={"prompt": "another"}), 422)
    assert told["detail"].startswith("Idempotency-Key: the key 'order-17' was used for another request")
    assert first["id"] in told["detail"]
    body = {"model": MODEL, "input": {"prompt": "a red circle"}}
    problem(client.post(f"/v1/models/{MODEL}/predictions", json=body, headers=KEY), 422)
    assert count(conn, "predictions") == count(conn, "procrastinate_jobs") == 1


def test_a_crowd_that_sends_the_same_at_once_gets_one_prediction(app: Flask, conn: Connection) -> None:
    with ThreadPoolExecutor(8) as pool:
        ids = set(pool.map(lambda _: submit(app.test_client(), headers=KEY)["id"], range(24)))
    assert len(ids) == 1
    assert count(conn, "predictions") == count(conn, "procrastinate_jobs") == 1


def test_keys_of_different_tokens_are_different_keys(
    client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "REMEMBER_S", 0.0)
    open_ = submit(client, headers=KEY)
    ids = {open_["id"]}
    for name in ("a", "b"):
        token = create_token(conn, name)
        ids.add(_submit_as(client, token))
    assert len(ids) == 3


def test_a_key_is_free_again_when_its_prediction_is_pruned(client: FlaskClient, conn: Connection) -> None:
    first = submit(client, headers=KEY)
    conn.execute("DELETE FROM predictions")
    assert submit(client, headers=KEY)["id"] != first["id"]


def _submit_as(client: FlaskClient, token: str) -> str:
    made = submit(client, headers=KEY | {"Authorization": f"Bearer {token}"})
    return str(made["id"])
