"""Metadata: what a client notes on its prediction comes back wherever the prediction is shown."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from storage.postgres.database import Connection
from storage.predictions.render import Renderer
from tests.support.api_app import post, problem, submit
from tests.support.making import draw_next

WEBHOOK = "http://127.0.0.1:9009/hook"
GIVEN = {"order": "17", "amount": 1.5, "count": 3, "is_gift": True, "note": None, "猫": "\U0001f431"}


def test_metadata_is_in_answers_lists_and_webhooks(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    filter_ = ["queued", "completed"]
    made = submit(client, metadata=GIVEN, webhook=WEBHOOK, webhook_events_filter=filter_)
    assert made["metadata"] == GIVEN
    assert client.get(f"/v1/predictions/{made['id']}").get_json()["metadata"] == GIVEN
    assert client.get("/v1/predictions").get_json()["results"][0]["metadata"] == GIVEN
    assert _webhook(conn)["metadata"] == GIVEN
    draw_next(conn, renderer)
    assert _webhook(conn)["metadata"] == GIVEN
    assert submit(client)["metadata"] == {}


def _webhook(conn: Connection) -> dict[str, Any]:
    row = conn.execute("SELECT body FROM webhook_deliveries ORDER BY created_at DESC LIMIT 1").fetchone()
    assert row is not None
    return dict(json.loads(row["body"]))


def test_another_metadata_under_the_same_key_is_another_request(client: FlaskClient) -> None:
    key = {"Idempotency-Key": "order-17"}
    made = submit(client, headers=key, metadata={"a": 1, "b": 2})["id"]
    assert submit(client, headers=key, metadata={"b": 2, "a": 1})["id"] == made
    assert "another request" in problem(post(client, headers=key, metadata={"a": 2}), 422)["detail"]
    problem(post(client, headers=key), 422)


def test_openais_route_refuses_what_does_not_fit_too(client: FlaskClient) -> None:
    answer = client.post("/v1/images/generations", json={"prompt": "a red circle", "metadata": {"user": []}})
    assert answer.status_code == 400
    assert answer.get_json()["error"]["param"].startswith("metadata.user")


@pytest.mark.parametrize(
    ("metadata", "field"),
    [
        ([], "metadata"),
        ("x", "metadata"),
        (None, "metadata"),
        ({str(number): 1 for number in range(17)}, "metadata"),
        ({"": 1}, "metadata"),
        ({"k" * 65: 1}, "metadata"),
        ({"a": []}, "metadata.a"),
        ({"a": {"b": 1}}, "metadata.a"),
        ({"a": "\0"}, "metadata.a"),
        ({"a\0": 1}, "metadata.a"),
        ({"a": "\ud800"}, "metadata.a"),
        ({"\ud800": 1}, "metadata"),
        ({"a": "x" * 2048}, "metadata"),
        ({"a": "猫" * 700}, "metadata"),
    ],
)
def test_metadata_that_is_not_small_and_flat_is_refused(shared_client: FlaskClient, metadata: Any, field: str) -> None:
    assert problem(post(shared_client, metadata=metadata), 422)["invalid_fields"][0]["field"].startswith(field)


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 3000])
def test_a_number_that_postgres_can_not_store_is_refused(shared_client: FlaskClient, number: str) -> None:
    body = f'{{"model": "darkroom/blank", "input": {{"prompt": "x"}}, "metadata": {{"a": {number}}}}}'
    problem(shared_client.post("/v1/predictions", data=body, content_type="application/json"), 422)


def test_as_much_as_fits_is_accepted(client: FlaskClient) -> None:
    metadata = {f"{number:064}": "" for number in range(16)} | {"0" * 64: "x" * 900}
    assert submit(client, metadata=metadata)["metadata"] == metadata
    numbers = {"a": int("9" * 300), "b": 1.5e-7, "c": -1e15}
    assert submit(client, metadata=numbers)["metadata"] == numbers
