"""Deleting a prediction, and keeping one beyond the retention time: over the API, on the real database and bucket."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient

from api.settings import ApiSettings
from courier.retention import retain_once
from storage.access.tokens import create_token
from storage.postgres.database import Connection
from storage.predictions.finish import StoredImage, StoredThumbnail, Succeeded, finish
from storage.predictions.render import Renderer
from storage.s3.bucket import Bucket
from tests.support.api_app import post, problem, serving, submit
from tests.support.making import claim_one, count, succeeded

SEEDED = {"prompt": "a secret wish", "seed": 7}
WEBHOOK = "http://127.0.0.1:9009/hook"


def draw(conn: Connection, renderer: Renderer, bucket: Bucket) -> None:
    """Draw the next prediction that waits, with a thumbnail, its bytes in the bucket."""
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    key = claimed.key_of(bucket._settings.s3_prefix, 0, "png")
    small = key.replace(".png", ".thumbnail.webp")
    bucket.put(key, b"bytes", "image/png")
    bucket.put(small, b"small", "image/webp")
    thumbnail = StoredThumbnail(small, "0" * 64, 5, "image/webp")
    image = StoredImage(key, "0" * 64, 5, "image/png", 64, 64, 7, thumbnail)
    assert finish(conn, renderer, claimed.prediction_id, Succeeded([image]), claim_id=claimed.claim_id) is not None


def files_in(bucket: Bucket) -> int:
    return sum(len(page) for page in bucket.pages(f"{bucket._settings.s3_prefix}/predictions/"))


def path_of(url: str) -> str:
    return url[url.index("/v1/") :]


def test_what_is_deleted_is_in_no_answer_and_its_bytes_go(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket, api_settings: ApiSettings
) -> None:
    id_ = submit(client, input=SEEDED, webhook=WEBHOOK)["id"]
    draw(conn, renderer, bucket)
    shown = client.get(f"/v1/predictions/{id_}").get_json()
    answer = client.delete(f"/v1/predictions/{id_}")
    assert (answer.status_code, answer.data) == (204, b"")
    problem(client.get(f"/v1/predictions/{id_}"), 404)
    problem(client.delete(f"/v1/predictions/{id_}"), 404)
    problem(client.post(f"/v1/predictions/{id_}/cancel"), 404)
    problem(client.post(f"/v1/predictions/{id_}/keep"), 404)
    problem(client.get(f"/v1/predictions/{id_}/events"), 404)
    for url in (shown["output"][0], shown["thumbnails"][0], shown["urls"]["stream"], shown["urls"]["events"]):
        problem(client.get(path_of(url)), 404)
    assert client.get("/v1/predictions").get_json()["results"] == []
    assert client.get("/v1/webhook_deliveries").get_json()["results"] == []
    for table in ("images", "objects", "webhook_deliveries"):
        assert count(conn, table) == 0, table
    retain_once(conn, bucket, api_settings, sweep=False)
    assert files_in(bucket) == 0
    row = conn.execute("SELECT * FROM predictions").fetchone()
    assert row is not None
    assert row["status"] == "succeeded", "the accounts still have it"
    assert "secret" not in str(row)
    assert row["cache_key"] is None, "a hash of the prompt lets others check a guess"


def test_one_that_waits_is_canceled_first(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    id_ = submit(client, input=SEEDED, webhook=WEBHOOK)["id"]
    assert client.delete(f"/v1/predictions/{id_}").status_code == 204
    assert claim_one(conn, renderer) is None
    assert count(conn, "predictions", "status = 'canceled' AND deleted_at IS NOT NULL") == 1
    assert count(conn, "procrastinate_jobs", "task_name = 'darkroom:draw'") == 0
    assert count(conn, "webhook_deliveries") == 0


def test_the_result_of_one_that_is_being_drawn_comes_too_late(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    id_ = submit(client, input=SEEDED)["id"]
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert client.delete(f"/v1/predictions/{id_}").status_code == 204
    assert finish(conn, renderer, id_, succeeded(claimed), claim_id=claimed.claim_id) is None
    assert count(conn, "images") == 0


def test_images_that_another_prediction_has_too_stay(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket, api_settings: ApiSettings
) -> None:
    first = submit(client, input=SEEDED)["id"]
    draw(conn, renderer, bucket)
    second = submit(client, input=SEEDED)
    assert second["metrics"]["cached"] is True
    assert client.delete(f"/v1/predictions/{first}").status_code == 204
    retain_once(conn, bucket, api_settings, sweep=False)
    assert client.get(path_of(second["output"][0])).data == b"bytes"
    assert client.delete(f"/v1/predictions/{second['id']}").status_code == 204
    retain_once(conn, bucket, api_settings, sweep=False)
    assert files_in(bucket) == 0
    assert submit(client, input=SEEDED)["status"] == "starting", "the cache of results has forgotten it"


def test_the_idempotency_key_of_what_is_deleted_is_free(client: FlaskClient) -> None:
    key = {"Idempotency-Key": "order-17"}
    first = submit(client, input=SEEDED, headers=key)["id"]
    assert submit(client, input=SEEDED, headers=key)["id"] == first
    assert client.delete(f"/v1/predictions/{first}").status_code == 204
    assert submit(client, input=SEEDED, headers=key)["id"] != first


def test_others_predictions_are_neither_deleted_nor_kept(api_settings: ApiSettings, conn: Connection) -> None:
    mine, theirs = (
        {"Authorization": f"Bearer {create_token(conn, name)}", "Content-Type": "application/json"}
        for name in ("mine", "theirs")
    )
    with serving(api_settings) as app:
        client = app.test_client()
        id_ = submit(client, input=SEEDED, headers=mine)["id"]
        problem(client.delete(f"/v1/predictions/{id_}", headers=theirs), 404)
        problem(client.post(f"/v1/predictions/{id_}/keep", headers=theirs, json={}), 404)
        problem(client.delete(f"/v1/predictions/{id_}"), 401)
        assert client.get(f"/v1/predictions/{id_}", headers=mine).get_json()["keep"] is False


@pytest.mark.parametrize("is_said", ["at_submission", "later"])
def test_retention_spares_what_is_kept_until_it_is_not_kept_any_more(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket, api_settings: ApiSettings, is_said: str
) -> None:
    if is_said == "at_submission":
        made = submit(client, input=SEEDED, keep=True, webhook=WEBHOOK, webhook_events_filter=["queued", "completed"])
        assert made["keep"] is True
        assert '"keep":true' in conn.execute("SELECT body FROM webhook_deliveries").fetchall()[0]["body"]
    else:
        made = submit(client, input=SEEDED)
        assert made["keep"] is False
    draw(conn, renderer, bucket)
    path = f"/v1/predictions/{made['id']}"
    if is_said == "later":
        assert client.post(f"{path}/keep").get_json()["keep"] is True
    conn.execute("UPDATE predictions SET completed_at = now() - interval '1 year'")
    conn.execute("UPDATE webhook_deliveries SET status = 'delivered'")
    retain_once(conn, bucket, api_settings, sweep=True)
    shown = client.get(path).get_json()
    assert (shown["keep"], shown["data_removed"]) == (True, False)
    assert client.get(path_of(shown["output"][0])).data == b"bytes", "its link is valid for as long"
    assert client.post(f"{path}/keep", json={"keep": False}).get_json()["keep"] is False
    retain_once(conn, bucket, api_settings, sweep=False)
    shown = client.get(path).get_json()
    assert (shown["keep"], shown["data_removed"]) == (False, True)
    problem(client.post(f"{path}/keep"), 410)


@pytest.mark.parametrize("body", [{"keep": "yes"}, {"keep": None}, {"kept": True}])
def test_a_body_that_says_something_else_is_refused(client: FlaskClient, body: dict[str, Any]) -> None:
    id_ = submit(client, input=SEEDED)["id"]
    problem(client.post(f"/v1/predictions/{id_}/keep", json=body), 422)
    if "keep" in body:
        problem(post(client, input=SEEDED, **body), 422)
