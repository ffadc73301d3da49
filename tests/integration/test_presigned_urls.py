"""IMAGE_URLS=presigned: answers lead to the bucket itself, on the host that clients reach; what is fixed never does."""

from __future__ import annotations

import hashlib
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from flask.testing import FlaskClient

from api.settings import ApiSettings
from storage.postgres.database import Connection
from storage.predictions.finish import StoredImage, StoredThumbnail, finish
from storage.predictions.read import read_images, read_prediction
from storage.predictions.render import Renderer
from storage.s3.bucket import Bucket
from tests.support.api_app import serving, submit
from tests.support.making import claim_one, succeeded

PIXELS, SMALL = b"\x89PNG of a kind", b"a WebP of a kind"


@pytest.fixture
def public_endpoint(settings: ApiSettings) -> str:
    """The same S3 server under another host name than the inner one."""
    inner = str(settings.s3_endpoint_url)
    assert "127.0.0.1" in inner
    return inner.replace("127.0.0.1", "localhost")


@pytest.fixture
def presigning(api_settings: ApiSettings, public_endpoint: str) -> ApiSettings:
    return api_settings.model_copy(update={"image_urls": "presigned", "s3_public_endpoint_url": public_endpoint})


@pytest.fixture
def presigning_client(presigning: ApiSettings) -> Iterator[FlaskClient]:
    with serving(presigning) as app:
        yield app.test_client()


@pytest.fixture
def drawn(presigning_client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket) -> str:
    """The id of a prediction whose image and thumbnail are in the bucket."""
    prediction_id: str = submit(
        presigning_client, webhook="http://127.0.0.1:9999/hook", webhook_events_filter=["completed"]
    )["id"]
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    outcome = succeeded(claimed)
    (image,) = outcome.images
    assert isinstance(image, StoredImage)
    small = StoredThumbnail(f"{image.key}.small", hashlib.sha256(SMALL).hexdigest(), len(SMALL), "image/webp")
    bucket.put(image.key, PIXELS, "image/png")
    bucket.put(small.key, SMALL, "image/webp")
    assert finish(
        conn,
        renderer,
        prediction_id,
        replace(outcome, images=[replace(image, thumbnail=small)]),
        claim_id=claimed.claim_id,
    )
    return prediction_id


def fetch(url: str, **headers: str) -> tuple[int, bytes, Any]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:  # noqa: S310
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def test_the_urls_of_an_answer_serve_the_files_from_the_public_host(
    presigning_client: FlaskClient, drawn: str, public_endpoint: str
) -> None:
    prediction = presigning_client.get(f"/v1/predictions/{drawn}").get_json()
    ((url,), (thumbnail,)) = prediction["output"], prediction["thumbnails"]
    for each, body, content_type, name in (
        (url, PIXELS, "image/png", f"{drawn}-0.png"),
        (thumbnail, SMALL, "image/webp", f"{drawn}-0.thumbnail.webp"),
    ):
        assert each.startswith(f"{public_endpoint}/")
        status, got, headers = fetch(each)
        assert (status, got, headers["Content-Type"]) == (200, body, content_type)
        assert headers["Content-Disposition"] == f'inline; filename="{name}"'
    assert fetch(url, Range="bytes=1-3")[:2] == (206, PIXELS[1:4])
    assert fetch(url.replace("localhost", "127.0.0.1"))[0] == 403  # the host is signed
    assert fetch(url.replace(drawn, "01m0000000000000000000000"))[0] == 403


def test_all_answers_have_them_and_no_two_moments_the_same(presigning_client: FlaskClient, drawn: str) -> None:
    listed = presigning_client.get("/v1/predictions").get_json()["results"][0]["output"][0]
    canceled = presigning_client.post(f"/v1/predictions/{drawn}/cancel").get_json()["output"][0]
    events = presigning_client.get(f"/v1/predictions/{drawn}/events").text
    stream_url = presigning_client.get(f"/v1/predictions/{drawn}").get_json()["urls"]["stream"]
    stream = presigning_client.get(urlsplit(stream_url)._replace(scheme="", netloc="").geturl()).text
    for text in (listed, canceled, events, stream):
        assert "X-Amz-Signature=" in text
        assert "/v1/files/" not in text.replace("/v1/files/" + drawn + "/stream", "").replace(
            "/v1/files/" + drawn + "/events", ""
        )


def test_what_is_stored_or_sent_to_others_has_the_urls_of_the_api(
    presigning_client: FlaskClient, drawn: str, conn: Connection, presigning: ApiSettings
) -> None:
    presigning_client.get(f"/v1/predictions/{drawn}")
    delivery = conn.execute("SELECT body FROM webhook_deliveries").fetchone()
    assert delivery is not None
    assert f'"output":["{presigning.public_url}/v1/files/{drawn}/0.png?' in delivery["body"]
    for table in ("predictions", "webhook_deliveries", "images", "objects", "procrastinate_jobs"):
        row = conn.execute(f"SELECT count(*) AS n FROM {table} AS t WHERE t::text LIKE '%%X-Amz-%%'").fetchone()
        assert row == {"n": 0}, table


def test_a_repeat_that_is_answered_from_the_cache_has_them_too(presigning_client: FlaskClient, drawn: str) -> None:
    seed = presigning_client.get(f"/v1/predictions/{drawn}").get_json()["seed"]
    again = submit(presigning_client, input={"prompt": "a red circle", "seed": seed})
    assert again["metrics"]["cached"]
    assert fetch(again["output"][0])[:2] == (200, PIXELS)


def test_they_last_as_long_as_the_picture_but_no_longer_than_s3_allows(
    presigning: ApiSettings, drawn: str, conn: Connection, renderer: Renderer
) -> None:
    row = read_prediction(conn, drawn)
    assert row is not None
    images = read_images(conn, [drawn])[drawn]
    bucket = Bucket(presigning)

    def seconds(retention: timedelta, completed_at: datetime) -> int:
        shown = replace(renderer, retention=retention, presign=bucket.presign)
        (url,) = shown.prediction(dict(row) | {"completed_at": completed_at}, images)["output"]
        return int(parse_qs(urlsplit(url).query)["X-Amz-Expires"][0])

    now = datetime.now(UTC)
    assert seconds(timedelta(days=30), now) == 7 * 24 * 3600
    assert 3590 <= seconds(timedelta(hours=2), now - timedelta(hours=1)) <= 3600
    assert seconds(timedelta(hours=1), now - timedelta(hours=2)) == 1  # retention is about to take it


def test_without_a_public_endpoint_the_inner_one_is_used(api_settings: ApiSettings, bucket: Bucket) -> None:
    bucket.put("somewhere", PIXELS, "image/png")
    presigning = Bucket(api_settings.model_copy(update={"image_urls": "presigned"}))
    url = presigning.presign("somewhere", "picture.png", datetime.now(UTC) + timedelta(minutes=5))
    assert url.startswith(f"{api_settings.s3_endpoint_url}/")
    assert fetch(url)[:2] == (200, PIXELS)
