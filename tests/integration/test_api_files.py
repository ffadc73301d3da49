"""Images by signed URL: the right one serves the bytes, any other is refused before anything is looked up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, assume, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from storage.bucket import Bucket
from storage.postgres.database import Connection
from storage.predictions.finish import StoredImage, finish
from storage.predictions.render import Wire
from tests.api_app import problem
from tests.making import claim_one, submit_one, succeeded

BYTES = b"\x89PNG of a kind"


@pytest.fixture
def image_url(conn: Connection, wire: Wire, bucket: Bucket) -> str:
    """Path and query of a published image."""
    submit_one(conn)
    claimed = claim_one(conn, wire)
    assert claimed is not None
    outcome = succeeded(claimed)
    image = outcome.images[0]
    assert isinstance(image, StoredImage)
    bucket.put(image.key, BYTES, "image/png")
    row = finish(conn, wire, claimed.prediction_id, outcome, claim_id=claimed.claim_id)
    assert row is not None
    url = wire.links.of_image(row["id"], 0, "png", datetime.now(UTC) + timedelta(hours=1))
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


def test_an_expired_url_is_403_though_it_was_signed(client: FlaskClient, wire: Wire, image_url: str) -> None:
    prediction_id = image_url.split("/")[3]
    expired = wire.links.of_image(prediction_id, 0, "png", datetime.now(UTC) - timedelta(seconds=1))
    told = problem(client.get(urlsplit(expired)._replace(scheme="", netloc="").geturl()), 403)
    assert "GET the prediction for a new one" in told["detail"]


def test_an_image_whose_object_is_gone_is_404(
    client: FlaskClient, conn: Connection, bucket: Bucket, image_url: str
) -> None:
    row = conn.execute("SELECT key FROM objects").fetchone()
    assert row is not None
    bucket._client.delete_object(Bucket=bucket.name, Key=row["key"])
    problem(client.get(image_url), 404)
    conn.execute("DELETE FROM images")
    problem(client.get(image_url), 404)
