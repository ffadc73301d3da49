"""What retention has removed is asked for again: with its old Idempotency-Key, by its streams, or in that moment."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.services import KEY as SERVICES
from api.settings import ApiSettings
from storage.postgres.database import Connection, Row, connect
from storage.predictions.finish import StoredImage, finish
from storage.predictions.read import read_prediction
from storage.predictions.render import Renderer
from storage.predictions.repeats.idempotency import read_by_key
from storage.predictions.retention.expiry import expire_predictions
from storage.s3.bucket import Bucket
from tests.integration.drawing_beside import KEY, beside, images_of
from tests.support.api_app import submit
from tests.support.eventually import eventually
from tests.support.making import claim_one, count, submit_one, succeeded


def draw(conn: Connection, renderer: Renderer, bucket: Bucket) -> Row | None:
    """Draw the next prediction that waits, with bytes in the bucket."""
    claimed = claim_one(conn, renderer)
    if claimed is None:
        return None
    outcome = succeeded(claimed)
    for image in outcome.images:
        assert isinstance(image, StoredImage)
        bucket.put(image.key, b"bytes", "image/png")
    row = finish(conn, renderer, claimed.prediction_id, outcome, claim_id=claimed.claim_id)
    assert row is not None
    return row


def remove_data(conn: Connection) -> None:
    assert expire_predictions(conn, older_than=timedelta(0)) == 1


def test_the_same_key_draws_anew_when_the_data_was_removed(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    first = submit(client, headers=KEY)
    draw(conn, renderer, bucket)
    remove_data(conn)
    again = submit(client, headers=KEY)
    assert again["id"] != first["id"]
    assert again["status"] == "starting"
    assert count(conn, "procrastinate_jobs") == 1
    assert submit(client, headers=KEY)["id"] == again["id"]  # now the key is that one's


def test_another_request_may_have_the_key_then(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    submit(client, headers=KEY)
    draw(conn, renderer, bucket)
    remove_data(conn)
    assert submit(client, headers=KEY, input={"prompt": "another"})["status"] == "starting"


def test_a_key_that_an_older_release_has_left_at_removed_data_is_free_too(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    first = submit(client, headers=KEY)
    draw(conn, renderer, bucket)
    conn.execute("DELETE FROM images")
    conn.execute("UPDATE predictions SET data_removed = true, input = '{}', parameters = '{}', logs = ''")
    for body in ({"prompt": "a red circle"}, {"prompt": "another"}):
        conn.execute("DELETE FROM predictions WHERE NOT data_removed")
        conn.execute("UPDATE predictions SET idempotency_key = %s", (KEY["Idempotency-Key"],))
        again = submit(client, headers=KEY, input=body)
        assert again["id"] != first["id"]
        assert again["status"] == "starting"


@pytest.mark.parametrize("stream", [False, True])
def test_openais_route_draws_anew_under_the_same_key(
    client: FlaskClient, settings: ApiSettings, conn: Connection, bucket: Bucket, stream: bool
) -> None:
    for _ in range(2):
        with beside(settings, lambda conn, renderer: draw(conn, renderer, bucket)):
            [told] = images_of(client, stream=stream)
        assert told["size"] == "64x64"
        if stream:
            assert (told["type"], told["b64_json"]) == ("image_generation.completed", "Ynl0ZXM=")
        else:
            assert len(told["data"]) == 1
        remove_data(conn)
    assert count(conn, "predictions") == 2


@pytest.mark.parametrize("stream", [False, True])
def test_openais_route_says_so_when_the_data_is_removed_while_it_waits(
    client: FlaskClient, settings: ApiSettings, bucket: Bucket, stream: bool
) -> None:
    def draw_and_remove(conn: Connection, renderer: Renderer) -> bool:
        with conn.transaction():  # nobody sees the picture
            if draw(conn, renderer, bucket) is None:
                return False
            remove_data(conn)
        return True

    with beside(settings, draw_and_remove):
        [told] = images_of(client, stream=stream)
    assert "its images were removed after the retention time" in told["error"]["message"]
    assert told["error"]["type"] == "invalid_request_error"


def test_a_request_in_the_moment_of_the_removal_waits_for_it_and_draws_anew(
    client: FlaskClient, conn: Connection, settings: ApiSettings, renderer: Renderer, bucket: Bucket
) -> None:
    first = submit(client, headers=KEY)
    draw(conn, renderer, bucket)
    answers: list[dict[str, Any]] = []
    with connect(settings.database_url, application_name="test retention") as remover:
        with remover.transaction():
            remove_data(remover)
            posting = threading.Thread(target=lambda: answers.append(submit(client, headers=KEY)))
            posting.start()
            eventually(lambda: count(conn, "pg_locks", "NOT granted") == 1)
        posting.join()
    assert answers[0]["id"] != first["id"]
    assert answers[0]["status"] == "starting"


def test_a_key_that_is_read_in_that_moment_is_read_as_free(
    client: FlaskClient, conn: Connection, settings: ApiSettings, renderer: Renderer, bucket: Bucket
) -> None:
    first = submit(client, headers=KEY)
    draw(conn, renderer, bucket)
    row = read_prediction(conn, first["id"])
    assert row is not None
    found: list[Row | None] = []
    with connect(settings.database_url, application_name="test") as reader:

        def read() -> None:
            found.append(read_by_key(reader, None, KEY["Idempotency-Key"], row["request_hash"]))

        read()
        with connect(settings.database_url, application_name="test retention") as remover:
            with remover.transaction():
                remove_data(remover)
                reading = threading.Thread(target=read)
                reading.start()
                eventually(lambda: count(conn, "pg_locks", "NOT granted") == 1)
            reading.join()
    assert found[0] is not None
    assert found[0]["id"] == first["id"]
    assert found[1] is None


def test_a_prediction_whose_images_go_while_it_is_rendered_says_that_its_data_was_removed(
    app: Flask, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    submit_one(conn, webhook=None, webhook_events=())
    row = draw(conn, renderer, bucket)
    assert row is not None
    body = app.extensions[SERVICES].body_of
    assert len(json.loads(body(conn, row))["output"]) == 1
    remove_data(conn)
    shown = json.loads(body(conn, row))  # the row is as it was before
    assert (shown["data_removed"], shown["output"], shown["input"]) == (True, None, {})


def test_every_other_route_of_a_prediction_answers_after_the_removal(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    prediction = submit(client)
    draw(conn, renderer, bucket)
    remove_data(conn)
    url = f"/v1/predictions/{prediction['id']}"
    for shown in (
        client.get(url).get_json(),
        client.post(f"{url}/cancel").get_json(),
        client.get("/v1/predictions").get_json()["results"][0],
    ):
        assert (shown["status"], shown["data_removed"], shown["output"]) == ("succeeded", True, None)
        assert (shown["seed"], shown["thumbnails"]) == (None, None)
    events = client.get(f"{url}/events").get_data(as_text=True)
    assert events.count("event: ") == 1
    assert "event: done" in events
    assert '"data_removed":true' in events
    stream = client.get(urlsplit(prediction["urls"]["stream"])._replace(scheme="", netloc="").geturl())
    text = stream.get_data(as_text=True)
    assert "event: error" in text
    assert "its images were removed after the retention time" in text
    assert 'data: {"reason": "error"}' in text
