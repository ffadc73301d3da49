"""The bucket has lost an image: its file says so, and the same request is redrawn instead of answered with it."""

from __future__ import annotations

import secrets
import socket
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from api.services import KEY as SERVICES
from api.settings import ApiSettings
from cli.embedded import EmbeddedS3
from courier.retention import retain_once
from storage.postgres.database import Connection, Row
from storage.predictions.finish import StoredImage, StoredThumbnail, Succeeded, finish
from storage.predictions.render import Renderer
from storage.predictions.repeats.result_cache import reuse_result
from storage.predictions.retention.expiry import expire_predictions
from storage.s3.bucket import Bucket, BucketUnavailable, ObjectMissing, ObjectTimedOut, ObjectUnreadable, ensure_bucket
from tests.integration.drawing_beside import beside, images_of
from tests.integration.s3_between import hanging_on, without_listing
from tests.support.api_app import MODEL, problem, serving, submit
from tests.support.making import claim_one, count

SEEDED = {"prompt": "a red circle", "seed": 7}


def draw(conn: Connection, renderer: Renderer, bucket: Bucket, *, images: int = 1) -> Row | None:
    """Draw the next prediction that waits, each image with a thumbnail, with bytes in the bucket."""
    claimed = claim_one(conn, renderer)
    if claimed is None:
        return None
    folder = f"{bucket._settings.s3_prefix}/predictions/{claimed.prediction_id}/{claimed.attempt}-{claimed.claim_id}"
    stored = []
    for index in range(images):
        key, small = f"{folder}/{index}.png", f"{folder}/{index}.thumbnail.webp"
        bucket.put(key, b"bytes", "image/png")
        bucket.put(small, b"small", "image/webp")
        thumbnail = StoredThumbnail(small, "0" * 64, 5, "image/webp")
        stored.append(StoredImage(key, "0" * 64, 5, "image/png", 64, 64, 7 + index, thumbnail))
    row = finish(conn, renderer, claimed.prediction_id, Succeeded(stored), claim_id=claimed.claim_id)
    assert row is not None
    return row


def lose(bucket: Bucket, conn: Connection, *, ending: str = ".png") -> list[str]:
    """Delete the objects behind the service's back; returns their keys."""
    rows = conn.execute("SELECT key FROM objects WHERE key LIKE %s ORDER BY key", (f"%{ending}",)).fetchall()
    keys = [row["key"] for row in rows]
    assert keys
    bucket.delete(keys)
    return keys


def marked(conn: Connection) -> list[str]:
    return [
        row["key"]
        for row in conn.execute("SELECT key FROM objects WHERE missing_since IS NOT NULL ORDER BY key").fetchall()
    ]


def path_of(url: str) -> str:
    return urlsplit(url)._replace(scheme="", netloc="").geturl()


def test_a_repeat_whose_image_is_lost_is_drawn_anew_and_then_answered_with_the_new_one(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    submit(client, input=SEEDED)
    draw(conn, renderer, bucket, images=2)
    assert submit(client, input=SEEDED)["status"] == "succeeded"
    lost = lose(bucket, conn, ending="/1.png")  # the second of two
    again = submit(client, input=SEEDED)
    assert again["status"] == "starting"
    assert count(conn, "procrastinate_jobs", "status = 'todo'") == 1
    assert marked(conn) == lost
    draw(conn, renderer, bucket)
    cached = submit(client, input=SEEDED)
    assert (cached["status"], cached["metrics"]["cached"]) == ("succeeded", True)
    assert again["id"] != cached["id"]
    assert client.get(path_of(cached["output"][0])).data == b"bytes"


def test_an_older_result_whose_image_is_there_is_used_where_the_newest_one_is_lost(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    for _ in range(2):
        submit(client, input=SEEDED | {"cache": False})
        newest = draw(conn, renderer, bucket)
    assert newest is not None
    lose(bucket, conn, ending=f"{newest['id']}%.png")
    assert submit(client, input=SEEDED)["status"] == "succeeded"


def test_a_claim_is_not_finished_with_an_image_that_is_lost(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    """Two wait for the same picture; the first one's is lost before the second one is claimed."""
    for _ in range(2):
        submit(client, input=SEEDED)
    draw(conn, renderer, bucket)
    lose(bucket, conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert reuse_result(conn, renderer, bucket, claimed.prediction, claim_id=claimed.claim_id) is None
    assert len(marked(conn)) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_openais_route_draws_anew_what_it_would_have_read(
    client: FlaskClient, conn: Connection, settings: ApiSettings, renderer: Renderer, bucket: Bucket, stream: bool
) -> None:
    body = {"model": MODEL, "prompt": "a red circle", "seed": 7, "response_format": "b64_json", "stream": stream}
    submit(client, input=SEEDED)
    draw(conn, renderer, bucket)
    lose(bucket, conn)
    with beside(settings, lambda conn, renderer: draw(conn, renderer, bucket)):
        text = client.post("/v1/images/generations", json=body).get_data(as_text=True)
    assert '"b64_json":"Ynl0ZXM="' in text
    assert count(conn, "images") == 2


@pytest.mark.parametrize("stream", [False, True])
def test_openais_route_says_so_where_a_key_leads_to_a_lost_picture(
    client: FlaskClient, conn: Connection, settings: ApiSettings, bucket: Bucket, stream: bool
) -> None:
    with beside(settings, lambda conn, renderer: draw(conn, renderer, bucket)):
        images_of(client, stream=True)
    lose(bucket, conn)
    conn.execute("UPDATE predictions SET request_hash = NULL")  # of either body
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("api.predictions.accept.hash_of_request", lambda: None)
        body = {"model": MODEL, "prompt": "a red circle", "response_format": "b64_json", "stream": stream}
        answer = client.post("/v1/images/generations", json=body, headers={"Idempotency-Key": "order-17"})
    assert answer.status_code == (200 if stream else 410)
    assert "the image store has lost this file" in answer.get_data(as_text=True)
    assert len(marked(conn)) == 1


def test_the_url_of_a_lost_image_is_410_and_counted_until_it_is_there_again(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    submit(client, input=SEEDED)
    draw(conn, renderer, bucket)
    prediction = submit(client, input=SEEDED)
    [key] = lose(bucket, conn)
    for _ in range(2):
        answer = client.get(path_of(prediction["output"][0]))
        assert "has lost this file" in problem(answer, 410)["detail"]
        assert answer.headers["Cache-Control"] == "no-store"
    assert marked(conn) == [key]
    ready = client.get("/readyz")
    assert (ready.status_code, ready.get_json()["missing_objects"]) == (200, 1)
    assert "darkroom_objects_missing 1.0" in client.get("/metrics").text
    assert client.get(path_of(prediction["thumbnails"][0])).data == b"small"  # that one is there

    bucket.put(key, b"bytes", "image/png")
    assert client.get(path_of(prediction["output"][0])).data == b"bytes"
    assert marked(conn) == []
    assert client.get("/readyz").get_json()["missing_objects"] == 0
    assert submit(client, input=SEEDED)["metrics"]["cached"] is True


def test_a_lost_thumbnail_is_410_and_its_prediction_is_no_result_any_more(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    submit(client, input=SEEDED)
    draw(conn, renderer, bucket)
    prediction = submit(client, input=SEEDED)
    lost = lose(bucket, conn, ending=".webp")
    problem(client.get(path_of(prediction["thumbnails"][0])), 410)
    assert marked(conn) == lost
    assert client.get(path_of(prediction["output"][0])).status_code == 200
    assert submit(client, input=SEEDED)["status"] == "starting"


def test_retention_removes_the_rows_of_lost_objects(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket, settings: ApiSettings
) -> None:
    submit(client, input=SEEDED)
    draw(conn, renderer, bucket)
    lose(bucket, conn)
    submit(client, input=SEEDED)
    assert len(marked(conn)) == 1
    assert expire_predictions(conn, older_than=timedelta(0)) == 1
    retain_once(conn, bucket, settings, sweep=True)
    assert count(conn, "objects") == count(conn, "object_tombstones") == 0


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
    return port


def test_where_s3_does_not_answer_a_repeat_gets_its_images_and_nothing_is_marked(
    api_settings: ApiSettings, conn: Connection, renderer: Renderer, bucket: Bucket, closed_port: int
) -> None:
    away = api_settings.model_copy(update={"s3_endpoint_url": f"http://127.0.0.1:{closed_port}"})
    with serving(away) as app:
        client = app.test_client()
        submit(client, input=SEEDED)
        draw(conn, renderer, bucket)
        cached = submit(client, input=SEEDED)
        assert cached["metrics"]["cached"] is True
        problem(client.get(path_of(cached["output"][0])), 503)
        assert app.extensions[SERVICES].bucket._ask_quickly_again_at > 0  # the next one isn't held up
    assert marked(conn) == []


def test_403_means_lost_where_other_objects_can_be_read(settings: ApiSettings, bucket: Bucket) -> None:
    key = f"{settings.s3_prefix}/there.png"
    bucket.put(key, b"bytes", "image/png")
    with without_listing(str(settings.s3_endpoint_url)) as url:
        between = Bucket(settings.model_copy(update={"s3_endpoint_url": url}))
        between.check_writable()
        assert b"".join(between.open(key).chunks) == b"bytes"
        with pytest.raises(ObjectMissing):
            between.open(f"{settings.s3_prefix}/gone.png")
        assert between.lost_among([key, f"{settings.s3_prefix}/gone.png"]) == [f"{settings.s3_prefix}/gone.png"]
        wrong_key = Bucket(settings.model_copy(update={"s3_endpoint_url": url, "s3_access_key_id": "nobody"}))
        with pytest.raises(BucketUnavailable):
            wrong_key.open(key)
        other_bucket = Bucket(settings.model_copy(update={"s3_bucket": "not-there"}))
        with pytest.raises(BucketUnavailable):
            other_bucket.open(key)


def test_an_object_that_is_not_given_in_time_is_drawn_anew_and_not_marked(
    api_settings: ApiSettings, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    """It may be there: only that part of S3 is busy."""
    with (
        hanging_on(str(api_settings.s3_endpoint_url), "0.png") as url,
        serving(api_settings.model_copy(update={"s3_endpoint_url": url})) as app,
    ):
        client = app.test_client()
        submit(client, input=SEEDED)
        draw(conn, renderer, bucket)
        assert submit(client, input=SEEDED)["status"] == "starting"
    assert marked(conn) == []


@pytest.fixture
def s3_that_loses() -> Iterator[EmbeddedS3]:
    with tempfile.TemporaryDirectory(prefix="dr-") as folder:
        s3 = EmbeddedS3(Path(folder) / "s3", access_key_id="tests", secret_access_key=secrets.token_urlsafe(24))
        s3.start()
        yield s3
        s3.stop()


def test_seaweedfs_that_has_lost_a_volume_is_seen_through(
    s3_that_loses: EmbeddedS3,
    api_settings: ApiSettings,
    conn: Connection,
    renderer: Renderer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It answers HEAD with 200 and GET with 500: the bytes are in the volume, all else is in the filer."""
    monkeypatch.setattr("storage.s3.bucket.ATTEMPTS", 1)  # it looks for lost bytes for 13 s in each
    s3 = s3_that_loses
    own = {"s3_access_key_id": "tests", "s3_secret_access_key": s3._secret_access_key}
    before = ApiSettings(**(api_settings.model_dump() | own | {"s3_endpoint_url": s3.endpoint_url}))
    ensure_bucket(before)
    with serving(before) as app:
        client, old = app.test_client(), Bucket(before)
        submit(client, input=SEEDED)
        draw(conn, renderer, old)
        old.put("empty", b"", "image/png")
        prediction = submit(client, input=SEEDED)
        assert prediction["status"] == "succeeded"
    s3.stop()
    for volume in [*s3.data.rglob("*.dat"), *s3.data.rglob("*.idx")]:
        volume.unlink()
    s3.start()
    after = before.model_copy(update={"s3_endpoint_url": s3.endpoint_url})
    row = conn.execute("SELECT key FROM objects WHERE key LIKE '%.png'").fetchone()
    assert row is not None
    bucket = Bucket(after)
    assert bucket._client.head_object(Bucket=bucket.name, Key=row["key"])["ContentLength"] == 5
    with pytest.raises(ObjectUnreadable):
        bucket.open(row["key"])
    with pytest.raises(ObjectTimedOut):  # it looks for the bytes for longer than a client wants to wait
        bucket.lost_among([row["key"]])
    assert bucket.lost_among(["empty"]) == []
    with serving(after) as app:
        client = app.test_client()
        problem(client.get(path_of(prediction["output"][0])), 503)  # a part of S3 may be back in a moment
        conn.execute("UPDATE objects SET missing_since = missing_since - interval '1 minute'")
        problem(client.get(path_of(prediction["output"][0])), 410)
        assert submit(client, input=SEEDED)["status"] == "starting"
        draw(conn, renderer, bucket)
        assert submit(client, input=SEEDED)["status"] == "succeeded"
