"""Replicate's routes as a client meets them: create, get, cancel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.settings import ApiSettings
from storage.postgres.database import Connection
from tests.support.api_app import CATALOG, MODEL, problem, serving, submit
from tests.support.making import count


def test_a_new_prediction_is_starting_and_has_its_bell(client: FlaskClient, conn: Connection) -> None:
    made = submit(client, input={"prompt": "a red circle", "seed": 5, "num_outputs": 2})
    assert made["status"] == "starting"
    assert made["model"] == MODEL
    assert made["input"] == {"prompt": "a red circle", "seed": 5, "num_outputs": 2}
    assert made["output"] is None
    assert "Using seed: 5" in made["logs"]
    assert count(conn, "procrastinate_jobs", f"args->>'prediction_id' = '{made['id']}' AND status = 'todo'") == 1
    assert client.get(f"/v1/predictions/{made['id']}").get_json() == made


def test_every_route_is_there_with_and_without_v1(client: FlaskClient) -> None:
    for prefix in ("/v1", ""):
        _use_every_route(client, prefix)


def _use_every_route(client: FlaskClient, prefix: str) -> None:
    body = {"model": MODEL, "input": {"prompt": "a"}}
    made = client.post(f"{prefix}/predictions", json=body).get_json()
    assert client.get(f"{prefix}/predictions/{made['id']}").status_code == 200
    assert client.get(f"{prefix}/predictions").get_json()["results"][0]["id"] == made["id"]
    assert client.post(f"{prefix}/predictions/{made['id']}/cancel").status_code == 200
    assert client.post(f"{prefix}/models/{MODEL}/predictions", json={"input": {"prompt": "a"}}).status_code == 201
    assert client.get(f"{prefix}/webhooks/default/secret").get_json()["key"].startswith("whsec_")


def test_a_model_goes_by_name_version_or_alias(client: FlaskClient) -> None:
    for reference in (
        {"model": MODEL},
        {"version": MODEL},
        {"version": f"{MODEL}:1"},
        {"model": f"{MODEL}:1"},
        {"model": MODEL, "version": "1"},
        {"model": MODEL, "version": f"{MODEL}:1"},
        {"model": f"{MODEL}:1", "version": MODEL},
        {"model": "dall-e-3", "version": "1"},
        {"model": "dall-e-3"},
    ):
        answer = client.post("/v1/predictions", json={"input": {"prompt": "a"}} | reference)
        assert answer.status_code == 201, answer.text
        assert answer.get_json()["model"] == MODEL


def test_the_name_decides_between_models_with_the_same_version(api_settings: ApiSettings, tmp_path: Path) -> None:
    catalog = tmp_path / "models.toml"
    catalog.write_text(CATALOG.replace('version = "2"', 'version = "1"'))
    with serving(api_settings.model_copy(update={"models": catalog})) as app:
        client = app.test_client()
        for name in (MODEL, "darkroom/other"):
            for reference in ({"version": f"{name}:1"}, {"model": name, "version": "1"}, {"model": f"{name}:1"}):
                answer = client.post("/v1/predictions", json={"input": {"prompt": "a"}} | reference)
                assert answer.status_code == 201, answer.text
                assert answer.get_json()["model"] == name
            path = f"/v1/models/{name}"
            assert (
                client.post(f"{path}/predictions", json={"version": "1", "input": {"prompt": "a"}}).status_code == 201
            )
            assert client.get(f"{path}/versions/1").get_json()["version"] == "1"
        bare = problem(client.post("/v1/predictions", json={"version": "1", "input": {"prompt": "a"}}), 422)
        assert "one of several models (darkroom/blank, darkroom/other)" in bare["detail"]
        assert "leave the version out" in bare["detail"]


@pytest.mark.parametrize("place", ["input", "body"])
def test_previews_can_be_asked_for_in_the_input_and_beside_it(
    client: FlaskClient, conn: Connection, place: str
) -> None:
    body: dict[str, Any] = {"model": MODEL, "input": {"prompt": "a"}}
    (body["input"] if place == "input" else body)["previews"] = True
    assert "Ignored" not in client.post("/v1/predictions", json=body).get_json()["logs"]
    assert count(conn, "predictions", "parameters->'previews' = 'true'") == 1


def test_cancel_is_terminal_at_once_and_again_changes_nothing(client: FlaskClient, conn: Connection) -> None:
    made = submit(client)
    first = client.post(f"/v1/predictions/{made['id']}/cancel")
    assert first.status_code == 200
    assert first.get_json()["status"] == "canceled"
    assert first.get_json()["completed_at"]
    assert client.post(f"/v1/predictions/{made['id']}/cancel").data == first.data
    assert count(conn, "procrastinate_jobs") == 0


def test_cancel_after_sets_the_deadline(client: FlaskClient, conn: Connection) -> None:
    submit(client, headers={"Cancel-After": "1m30s"})
    assert count(conn, "predictions", "deadline_at - created_at BETWEEN interval '89 s' AND interval '91 s'") == 1


def test_cancel_after_lengthens_no_deadline(client: FlaskClient, conn: Connection) -> None:
    submit(client, headers={"Cancel-After": "99999h"})
    assert count(conn, "predictions", "deadline_at - created_at <= interval '1 day 1 s'") == 1


def test_a_priority_reaches_the_bell(client: FlaskClient, conn: Connection) -> None:
    submit(client, input={"prompt": "a", "priority": 7})
    assert count(conn, "procrastinate_jobs", "priority = 7") == 1


def test_every_answer_carries_the_request_id_that_was_sent_or_a_new_one(client: FlaskClient) -> None:
    assert client.get("/healthz", headers={"X-Request-ID": "abc-1"}).headers["X-Request-ID"] == "abc-1"
    for bad in ("a b", "x" * 129, "ü"):
        assert len(client.get("/v1/nothing", headers={"X-Request-ID": bad}).headers["X-Request-ID"]) == 16
