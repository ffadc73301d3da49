"""What retention removes, what it waits for, and what it never touches: on the real database and bucket."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from uuid import uuid4

import psycopg
import pytest
from pydantic import ValidationError
from ulid import ULID

from api.settings import ApiSettings
from courier.retention import retain_once
from storage.postgres.database import Connection, Row
from storage.predictions.claim import Claim, hand_back
from storage.predictions.finish import StoredImage, Succeeded, finish
from storage.predictions.read import read_images, read_prediction
from storage.predictions.render import Renderer, open_renderer
from storage.predictions.retention import expiry
from storage.s3.bucket import Bucket, BucketUnavailable, ObjectMissing
from tests.integration.deliveries_of import write
from tests.support.api_app import serving
from tests.support.making import claim_one, count, submit_one

WEEK = timedelta(days=7)
BODY = b"bytes of an image"


@pytest.fixture
def ended(conn: Connection, renderer: Renderer, bucket: Bucket, settings: ApiSettings) -> Row:
    """A prediction that succeeded eight days ago, its webhook delivered, its image in the bucket."""
    return end_one(conn, renderer, bucket, settings)


def end_one(conn: Connection, renderer: Renderer, bucket: Bucket, settings: ApiSettings) -> Row:
    submit_one(conn, logs="a note")
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    key = upload(bucket, settings, claimed)
    image = StoredImage(key, "0" * 64, len(BODY), "image/png", 64, 64, 7)
    row = finish(conn, renderer, claimed.prediction_id, Succeeded([image]), claim_id=claimed.claim_id)
    assert row is not None
    conn.execute("UPDATE predictions SET completed_at = now() - interval '8 days'")
    conn.execute("UPDATE webhook_deliveries SET status = 'delivered'")
    return row


def upload(bucket: Bucket, settings: ApiSettings, claimed: Claim) -> str:
    key = claimed.key_of(settings.s3_prefix, 0, "png")
    bucket.put(key, BODY, "image/png")
    return key


def keys_in(bucket: Bucket, settings: ApiSettings) -> set[str]:
    return {listed.key for page in bucket.pages(f"{settings.s3_prefix}/") for listed in page}


def read(conn: Connection, prediction_id: str) -> Row:
    row = read_prediction(conn, prediction_id)
    assert row is not None
    return row


def test_an_expired_prediction_loses_its_data_and_its_bytes_and_says_so(
    conn: Connection, renderer: Renderer, bucket: Bucket, settings: ApiSettings, ended: Row
) -> None:
    retain_once(conn, bucket, settings, sweep=False)
    row = read(conn, ended["id"])
    shown = renderer.prediction(row, read_images(conn, [row["id"]])[row["id"]])
    assert (shown["data_removed"], shown["input"], shown["output"], shown["logs"]) == (True, {}, None, "")
    assert shown["status"] == "succeeded"
    assert row["parameters"] == {}
    assert row["webhook"] is None
    for table in ("images", "objects", "object_tombstones", "webhook_deliveries"):
        assert count(conn, table) == 0, table
    assert keys_in(bucket, settings) == set()


def test_what_is_younger_than_the_retention_time_stays(
    conn: Connection, bucket: Bucket, settings: ApiSettings, ended: Row
) -> None:
    conn.execute("UPDATE predictions SET completed_at = now() - interval '6 days'")
    retain_once(conn, bucket, settings, sweep=True)
    assert not read(conn, ended["id"])["data_removed"]
    assert len(keys_in(bucket, settings)) == 1


def test_it_waits_for_a_delivery_that_is_still_pending(
    conn: Connection, bucket: Bucket, settings: ApiSettings, ended: Row
) -> None:
    conn.execute("UPDATE webhook_deliveries SET status = 'pending'")
    retain_once(conn, bucket, settings, sweep=True)
    assert not read(conn, ended["id"])["data_removed"]
    conn.execute("UPDATE webhook_deliveries SET status = 'failed'")
    retain_once(conn, bucket, settings, sweep=True)
    assert read(conn, ended["id"])["data_removed"]


def test_a_prediction_that_is_not_over_is_never_expired(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    submit_one(conn)
    assert claim_one(conn, renderer) is not None
    assert expiry.expire_predictions(conn, older_than=timedelta(0)) == 0


def test_an_object_that_another_prediction_refers_to_stays(
    conn: Connection, renderer: Renderer, bucket: Bucket, settings: ApiSettings, ended: Row
) -> None:
    younger = submit_one(conn)
    conn.execute(
        """
        INSERT INTO images (prediction_id, index, object_key, width, height, seed)
        SELECT %s, 0, object_key, 64, 64, 7 FROM images
        """,
        (younger["id"],),
    )
    retain_once(conn, bucket, settings, sweep=True)
    assert read(conn, ended["id"])["data_removed"]
    assert count(conn, "objects") == 1
    assert len(keys_in(bucket, settings)) == 1


def test_bytes_that_s3_does_not_delete_keep_their_tombstone(
    conn: Connection, bucket: Bucket, settings: ApiSettings, ended: Row
) -> None:
    nowhere = settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})
    with pytest.raises(BucketUnavailable):
        retain_once(conn, Bucket(nowhere), settings, sweep=False)
    assert (count(conn, "objects"), count(conn, "object_tombstones")) == (0, 1)
    retain_once(conn, bucket, settings, sweep=False)
    assert count(conn, "object_tombstones") == 0
    assert keys_in(bucket, settings) == set()


class Refusing(Bucket):
    """The real one, but for objects that it refuses to delete (an object lock, which SeaweedFS can't be given here)."""

    def delete(self, keys: Sequence[str]) -> list[str]:
        return super().delete([key for key in keys if "locked" not in key])


def test_what_s3_refuses_to_delete_holds_up_nothing_else(
    conn: Connection, settings: ApiSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "S3_BATCH", 2)
    for name in ("locked-1", "locked-2", "free-1", "free-2", "free-3"):
        conn.execute("INSERT INTO object_tombstones (key) VALUES (%s)", (f"{settings.s3_prefix}/predictions/{name}",))
    for _ in range(3):  # as many turns of the courier
        retain_once(conn, Refusing(settings), settings, sweep=False)
    assert count(conn, "object_tombstones", "key LIKE '%/locked-%'") == count(conn, "object_tombstones") == 2


def test_a_tombstone_outside_our_prefix_is_left_alone(conn: Connection, bucket: Bucket, settings: ApiSettings) -> None:
    other = f"{settings.s3_prefix}-other/predictions/x.png"
    bucket.put(other, BODY, "image/png")
    conn.execute("INSERT INTO object_tombstones (key) VALUES (%s)", (other,))
    retain_once(conn, bucket, settings, sweep=True)
    assert bucket.open(other).size_bytes == len(BODY)
    bucket.delete([other])


def test_an_object_is_an_orphan_once_its_prediction_is_over_or_has_a_newer_claim(
    conn: Connection, renderer: Renderer, bucket: Bucket, settings: ApiSettings
) -> None:
    submit_one(conn)
    first = claim_one(conn, renderer)
    assert first is not None
    key = upload(bucket, settings, first)

    def swept() -> int:
        return expiry.sweep_orphans(conn, bucket, s3_prefix=settings.s3_prefix, unknown_after=WEEK)

    assert swept() == 0, "its worker may be about to commit"
    hand_back(conn, renderer, first.prediction_id, first.claim_id)
    assert swept() == 0, "nobody has claimed it anew"
    second = claim_one(conn, renderer)
    assert second is not None
    newer = upload(bucket, settings, second)
    assert swept() == 1
    with pytest.raises(ObjectMissing):
        bucket.open(key)
    image = StoredImage(newer, "0" * 64, len(BODY), "image/png", 64, 64, 7)
    finish(conn, renderer, second.prediction_id, Succeeded([image]), claim_id=second.claim_id)
    late = upload(bucket, settings, first)
    assert swept() == 1, "a stale worker's upload comes after the end"
    assert keys_in(bucket, settings) == {newer}, late


def test_an_object_of_an_unknown_prediction_stays_for_the_retention_time(
    conn: Connection, bucket: Bucket, settings: ApiSettings
) -> None:
    key = f"{settings.s3_prefix}/predictions/{str(ULID()).lower()}/1-{uuid4()}/0.png"
    bucket.put(key, BODY, "image/png")
    bucket.put(f"{settings.s3_prefix}/predictions/notes.txt", BODY, "text/plain")
    assert expiry.sweep_orphans(conn, bucket, s3_prefix=settings.s3_prefix, unknown_after=WEEK) == 0
    no_time = timedelta(seconds=-60)
    assert expiry.sweep_orphans(conn, bucket, s3_prefix=settings.s3_prefix, unknown_after=no_time) == 1
    assert keys_in(bucket, settings) == {f"{settings.s3_prefix}/predictions/notes.txt"}, "not ours to judge"


def test_many_expire_in_batches(
    conn: Connection, bucket: Bucket, settings: ApiSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "BATCH", 2)
    for _ in range(5):
        write(conn, "http://127.0.0.1:9/hook")
    conn.execute("UPDATE predictions SET completed_at = now() - interval '8 days'")
    conn.execute("UPDATE webhook_deliveries SET status = 'delivered'")
    retain_once(conn, bucket, settings, sweep=False)
    assert count(conn, "predictions", "data_removed") == 5


def test_two_couriers_at_once_expire_each_prediction_once(
    conn: Connection, settings: ApiSettings, bucket: Bucket, ended: Row
) -> None:
    with psycopg.connect(settings.database_url) as other:
        other.execute("SELECT 1 FROM predictions FOR UPDATE")
        assert expiry.expire_predictions(conn, older_than=WEEK) == 0, "the other one holds it"
    assert expiry.expire_predictions(conn, older_than=WEEK) == 1
    assert expiry.expire_predictions(conn, older_than=WEEK) == 0


def test_with_retention_switched_off_nothing_expires_and_its_links_do_not_either(
    conn: Connection, bucket: Bucket, settings: ApiSettings, ended: Row
) -> None:
    conn.execute("UPDATE predictions SET completed_at = now() - interval '50 years'")
    kept = settings.model_copy(update={"retention_s": 0.0})
    unknown = f"{settings.s3_prefix}/predictions/{str(ULID()).lower()}/1-{uuid4()}/0.png"  # of a restored database
    bucket.put(unknown, BODY, "image/png")
    retain_once(conn, bucket, kept, sweep=True)
    row = read(conn, ended["id"])
    shown = open_renderer(kept, conn).prediction(row, read_images(conn, [row["id"]])[row["id"]])
    assert (shown["data_removed"], shown["logs"]) == (False, "a note")
    assert unknown in keys_in(bucket, settings)
    assert len(keys_in(bucket, settings)) == 2
    with serving(kept) as app:
        assert app.test_client().get(shown["output"][0].removeprefix(settings.public_url)).data == BODY


def test_a_retention_that_no_date_could_hold_is_refused_and_so_is_a_negative_one(settings: ApiSettings) -> None:
    values = settings.model_dump()
    for seconds in (-1, 1e11, float("inf"), float("nan")):
        with pytest.raises(ValidationError, match="retention_s"):
            ApiSettings(**values | {"retention_s": seconds})
