"""Images by signed URL: the right one serves the bytes, any other is refused before anything is looked up."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from werkzeug.serving import WSGIRequestHandler, make_server

from storage.postgres.database import Connection
from storage.predictions.finish import StoredImage, finish
from storage.predictions.render import Renderer
from storage.s3.bucket import Bucket
from tests.support.api_app import problem
from tests.support.making import claim_one, submit_one, succeeded
from tests.support.receivers import running

BYTES = b"\x89PNG of a kind" + bytes(range(256)) * 600  # several chunks
ETAG = f'"{hashlib.sha256(BYTES).hexdigest()}"'


@pytest.fixture
def image_url(conn: Connection, renderer: Renderer, bucket: Bucket) -> str:
    """Path and query of a published image."""
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    outcome = succeeded(claimed)
    image = outcome.images[0]
    assert isinstance(image, StoredImage)
    image = replace(image, size_bytes=len(BYTES), sha256=hashlib.sha256(BYTES).hexdigest())
    outcome = replace(outcome, images=[image])
    bucket.put(image.key, BYTES, "image/png")
    row = finish(conn, renderer, claimed.prediction_id, outcome, claim_id=claimed.claim_id)
    assert row is not None
    url = renderer.links.of_image(row["id"], 0, "png", datetime.now(UTC) + timedelta(hours=1))
    return urlsplit(url)._replace(scheme="", netloc="").geturl()


def test_a_signed_url_serves_the_bytes_and_how_to_keep_them(client: FlaskClient, image_url: str) -> None:
    answer = client.get(image_url)
    assert answer.status_code == 200
    assert answer.data == BYTES
    assert answer.content_type == "image/png"
    assert "private" in answer.headers["Cache-Control"]
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_a_signed_url_serves_also_who_sends_a_token_that_is_none(client: FlaskClient, image_url: str) -> None:
    assert client.get(image_url, headers={"Authorization": "Bearer r8_somebody_elses"}).data == BYTES


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(min_value=0, max_value=400), other=st.sampled_from("0123456789abcdefgz"))
def test_a_changed_character_is_403_or_leads_nowhere(
    client: FlaskClient, image_url: str, place: int, other: str
) -> None:
    place %= len(image_url)
    changed = image_url[:place] + other + image_url[place + 1 :]
    assume(changed != image_url)
    answer = client.get(changed)
    assert answer.status_code in {403, 404}, changed
    if changed.startswith("/v1/files/") and changed.count("/") == image_url.count("/"):
        problem(answer, 403)


@pytest.mark.parametrize("given_", [{"expires": ["99999999999999"]}, {"expires": ["x"]}, {"signature": ["ü"]}, None])
def test_a_forged_signature_is_403(client: FlaskClient, image_url: str, given_: dict[str, list[str]] | None) -> None:
    parts = urlsplit(image_url)
    query = {} if given_ is None else parse_qs(parts.query) | given_
    problem(client.get(f"{parts.path}?{urlencode(query, doseq=True)}"), 403)


def test_an_expired_url_is_403_though_it_was_signed(client: FlaskClient, renderer: Renderer, image_url: str) -> None:
    prediction_id = image_url.split("/")[3]
    expired = renderer.links.of_image(prediction_id, 0, "png", datetime.now(UTC) - timedelta(seconds=1))
    told = problem(client.get(urlsplit(expired)._replace(scheme="", netloc="").geturl()), 403)
    assert "GET the prediction for a new one" in told["detail"]


def test_an_image_that_was_removed_is_404(client: FlaskClient, conn: Connection, image_url: str) -> None:
    conn.execute("DELETE FROM images")
    problem(client.get(image_url), 404)


def test_a_file_says_what_it_is_and_that_parts_of_it_can_be_had(client: FlaskClient, image_url: str) -> None:
    answer = client.get(image_url)
    assert answer.headers["ETag"] == ETAG
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert answer.headers["Content-Length"] == str(len(BYTES))


@pytest.mark.parametrize("known", [ETAG, f"W/{ETAG}", f'"other", {ETAG}', "*"])
def test_who_has_the_file_already_gets_304_and_no_bytes(client: FlaskClient, image_url: str, known: str) -> None:
    for method in ("GET", "HEAD"):
        answer = client.open(image_url, method=method, headers={"If-None-Match": known, "Range": "bytes=0-3"})
        assert (answer.status_code, answer.data) == (304, b"")
        assert answer.headers["ETag"] == ETAG
        assert "private" in answer.headers["Cache-Control"]
        assert "Content-Type" not in answer.headers
        assert "Content-Length" not in answer.headers


def test_who_has_another_file_gets_this_one(client: FlaskClient, image_url: str) -> None:
    assert client.get(image_url, headers={"If-None-Match": '"other"'}).data == BYTES


def test_who_insists_on_another_file_gets_412(client: FlaskClient, image_url: str) -> None:
    problem(client.get(image_url, headers={"If-Match": '"other"'}), 412)
    problem(client.get(image_url, headers={"If-Match": f"W/{ETAG}"}), 412)
    assert client.get(image_url, headers={"If-Match": ETAG}).data == BYTES


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [("bytes=0-3", 0, 3), ("bytes=4-", 4, len(BYTES) - 1), ("bytes=-5", len(BYTES) - 5, len(BYTES) - 1),
     ("bytes=70000-140000", 70000, 140000), ("bytes=10-999999999", 10, len(BYTES) - 1)],
)  # fmt: skip
def test_a_range_is_served_as_206(client: FlaskClient, image_url: str, asked: str, first: int, last: int) -> None:
    for more in ({}, {"If-Range": ETAG}):
        answer = client.get(image_url, headers={"Range": asked, **more})
        assert answer.status_code == 206
        assert answer.data == BYTES[first : last + 1]
        assert answer.headers["Content-Range"] == f"bytes {first}-{last}/{len(BYTES)}"
        assert answer.headers["Content-Length"] == str(last - first + 1)
        assert answer.headers["ETag"] == ETAG
        assert answer.content_type == "image/png"


@pytest.mark.parametrize(
    "headers",
    [{"Range": "bytes=0-3,8-9"}, {"Range": "bytes=9-3"}, {"Range": "lines=1-2"},
     {"Range": "bytes=0-3", "If-Range": '"other"'}, {"Range": "bytes=0-3", "If-Range": f"W/{ETAG}"},
     {"Range": "bytes=0-3", "If-Range": "Wed, 21 Oct 2026 07:28:00 GMT"}],
)  # fmt: skip
def test_what_is_no_single_range_of_this_very_file_is_served_whole(
    client: FlaskClient, image_url: str, headers: dict[str, str]
) -> None:
    answer = client.get(image_url, headers=headers)
    assert answer.status_code == 200
    assert answer.data == BYTES
    assert "Content-Range" not in answer.headers


def test_a_range_behind_the_end_is_416_with_the_size(client: FlaskClient, image_url: str) -> None:
    answer = client.get(image_url, headers={"Range": f"bytes={len(BYTES)}-"})
    problem(answer, 416)
    assert answer.headers["Content-Range"] == f"bytes */{len(BYTES)}"
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_head_tells_what_get_would_without_bytes(
    client: FlaskClient, conn: Connection, bucket: Bucket, image_url: str
) -> None:
    got, headed = client.get(image_url), client.head(image_url, headers={"Range": "bytes=0-3"})
    assert headed.status_code == 200
    assert headed.data == b""
    named = ("Content-Length", "Content-Type", "ETag", "Accept-Ranges", "Cache-Control", "Content-Disposition")
    assert {name: headed.headers[name] for name in named} == {name: got.headers[name] for name in named}
    row = conn.execute("SELECT key FROM objects").fetchone()
    assert row is not None
    bucket.delete([row["key"]])
    assert client.head(image_url).status_code == 410


def test_curl_resumes_a_download_that_was_cut_off(app: Flask, image_url: str, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    picture = tmp_path / "picture.png"
    picture.write_bytes(BYTES[:1000])
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=WSGIRequestHandler)
    with running(server):
        command = ["curl", "--fail", "--silent", "--show-error", "--noproxy", "*", "--continue-at", "-",
                   "--output", str(picture), f"http://127.0.0.1:{server.server_port}{image_url}"]  # fmt: skip
        subprocess.run(command, timeout=60, check=True)
    server.server_close()
    assert picture.read_bytes() == BYTES
