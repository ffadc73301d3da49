"""What providers of S3 do differently from AWS: a gateway plays their answers in front of the real S3 server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from uuid import uuid4

import boto3
import pytest

from cli.doctor.bucket import check_bucket
from cli.doctor.finding import Finding
from courier.retention import retain_once
from storage.errors import OperatorError
from storage.postgres.database import Connection
from storage.predictions.object_keys import folder
from storage.s3.bucket import Bucket, BucketUnavailable, ObjectMissing, ensure_bucket
from storage.s3.deletes import ONE_BY_ONE_AT_ONCE
from storage.settings import Settings
from tests.support.making import count
from tests.support.s3_gateway import Gateway, Refusal, Request, Rule, gateway, refuses, wants_content_md5

FORBIDDEN = Refusal(403, "AccessDenied", "Access Denied")
NOT_IMPLEMENTED = Refusal(501, "NotImplemented", "A header you provided implies functionality that is not implemented.")


@contextmanager
def behind(settings: Settings, *rules: Rule) -> Iterator[tuple[Settings, Gateway]]:
    with gateway(str(settings.s3_endpoint_url), *rules) as found:
        yield settings.model_copy(update={"s3_endpoint_url": found.url}), found


def findings(settings: Settings) -> list[Finding]:
    return list(check_bucket(settings))


def store(bucket: Bucket, settings: Settings, number: int) -> list[str]:
    keys = [f"{folder(settings.s3_prefix)}old-{index:03}" for index in range(number)]
    for key in keys:
        bucket.put(key, b"old", "image/png")
    return keys


def is_there(bucket: Bucket, key: str) -> bool:
    try:
        return bucket.read(key) == b"old"
    except ObjectMissing:
        return False


def test_a_key_that_may_not_ask_for_the_bucket_works_by_the_probe(settings: Settings) -> None:
    """Cloudflare R2's and Backblaze B2's keys for one bucket, and AWS policies for one prefix."""
    with behind(settings, refuses(FORBIDDEN, "HeadBucket", "CreateBucket", "ListObjects")) as (scoped, found):
        ensure_bucket(scoped)
        assert found.asked == ["HeadBucket", "PutObject"]
        Bucket(scoped).check()
        assert {finding.level for finding in findings(scoped)} == {"ok"}


def test_where_the_bucket_may_not_be_asked_for_and_is_not_there_it_is_created(settings: Settings) -> None:
    new = settings.model_copy(update={"s3_bucket": f"new-{uuid4().hex[:12]}"})
    with behind(new, refuses(FORBIDDEN, "HeadBucket")) as (scoped, _):
        with pytest.raises(BucketUnavailable):
            Bucket(scoped).check()
        ensure_bucket(scoped)
        Bucket(scoped).check()


def test_a_key_that_may_neither_ask_nor_store_is_refused_in_words(settings: Settings) -> None:
    with behind(settings, refuses(FORBIDDEN, "HeadBucket", "PutObject")) as (scoped, _):
        with pytest.raises(OperatorError, match=r"refuses us \(AccessDenied\): check S3_ACCESS_KEY_ID"):
            ensure_bucket(scoped)
        [finding] = findings(scoped)
        assert finding.level == "broken"


def test_content_md5_is_sent_where_it_is_wanted(settings: Settings) -> None:
    """Older Ceph wants it to delete several objects; a bucket with object lock to store one."""
    missing = Refusal(400, "MissingContentMD5", "Missing required header for this request: Content-MD5")
    rules = [wants_content_md5(missing, operation) for operation in ("DeleteObjects", "PutObject")]
    with behind(settings, *rules) as (strict, found):
        ensure_bucket(strict)
        bucket = Bucket(strict)
        keys = store(bucket, strict, 3)
        assert sorted(bucket.delete(keys)) == keys
        assert not bucket.deletes_one_by_one
        assert found.asked.count("DeleteObjects") == 1


@pytest.mark.parametrize(
    "refusal", [NOT_IMPLEMENTED, Refusal(400, "InvalidArgument"), Refusal(405, "MethodNotAllowed"), FORBIDDEN]
)
def test_where_several_can_not_be_deleted_at_once_each_is_and_the_server_is_not_asked_again(
    settings: Settings, refusal: Refusal
) -> None:
    """Google Cloud Storage, and gateways that know a part of S3."""
    with behind(settings, refuses(refusal, "DeleteObjects")) as (without, found):
        bucket = Bucket(without)
        keys = store(bucket, without, 3)
        assert bucket.delete(keys[:2]) == keys[:2]
        assert bucket.delete(keys[2:]) == keys[2:]
        assert not any(is_there(bucket, key) for key in keys)
        assert (found.asked.count("DeleteObjects"), found.asked.count("DeleteObject")) == (1, 3)


def test_a_key_that_may_not_delete_is_refused_once_and_not_for_each_object(settings: Settings) -> None:
    with behind(settings, refuses(FORBIDDEN, "DeleteObjects", "DeleteObject")) as (scoped, found):
        bucket = Bucket(scoped)
        with pytest.raises(BucketUnavailable, match="3 objects could not be deleted"):
            bucket.delete(["a", "b", "c"])
        assert found.asked == ["DeleteObjects", "DeleteObject"]
        told = [finding for finding in findings(scoped) if finding.level != "ok"]
        assert "can't be deleted" in told[0].text


def test_retention_catches_up_where_objects_are_deleted_one_by_one(settings: Settings, conn: Connection) -> None:
    with behind(settings, refuses(NOT_IMPLEMENTED, "DeleteObjects")) as (without, found):
        bucket = Bucket(without)
        keys = store(bucket, without, ONE_BY_ONE_AT_ONCE + 20)
        conn.execute("INSERT INTO object_tombstones (key) SELECT unnest(%s::text[])", (keys,))
        conn.commit()
        retain_once(conn, bucket, without, sweep=False)
        assert count(conn, "object_tombstones") == 0
        assert not is_there(bucket, keys[0])
        assert not is_there(bucket, keys[-1])
        assert (found.asked.count("DeleteObjects"), found.asked.count("DeleteObject")) == (1, len(keys))


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(
            400,
            "AuthorizationHeaderMalformed",
            "The authorization header is malformed; the region 'us-east-1' is wrong; expecting 'eu-central-1'",
            more="<Region>eu-central-1</Region>",
        ),
        Refusal(400, "AuthorizationHeaderMalformed", "the region 'us-east-1' is wrong; expecting 'eu-central-1'"),
        Refusal(301, "PermanentRedirect", headers={"x-amz-bucket-region": "eu-central-1"}),
    ],
)
def test_a_wrong_region_is_named_with_the_right_one(settings: Settings, refusal: Refusal) -> None:
    with behind(settings, lambda request: refusal) as (elsewhere, _):
        with pytest.raises(OperatorError, match=r"region eu-central-1, and S3_REGION is us-east-1: set S3_REGION=eu-"):
            ensure_bucket(elsewhere)
        [finding] = findings(elsewhere)
        assert finding.remedy == "set S3_REGION=eu-central-1"


@pytest.mark.parametrize(("ahead_s", "said"), [(3600, "ahead of"), (-3600, "behind")])
def test_a_clock_that_is_wrong_is_named(settings: Settings, ahead_s: int, said: str) -> None:
    date = format_datetime(datetime.now(UTC) - timedelta(seconds=ahead_s), usegmt=True)
    skewed = Refusal(403, "RequestTimeTooSkewed", "The difference is too large.", headers={"Date": date})
    with behind(settings, lambda request: skewed) as (late, _):
        [finding] = findings(late)
        assert f" s {said} S3's" in finding.text
        assert "synchronize its clock" in finding.remedy
        with pytest.raises(OperatorError, match=r"RequestTimeTooSkewed.*synchronize its clock"):
            ensure_bucket(late)


def slow_down(times: int) -> Callable[[Request], Refusal | None]:
    left = [times]

    def answer(request: Request) -> Refusal | None:
        if request.operation == "HeadBucket" or not left[0]:
            return None
        left[0] -= 1
        return Refusal(503, "SlowDown", "Please reduce your request rate.")

    return answer


def test_an_overloaded_server_is_asked_again_and_then_named(settings: Settings) -> None:
    with behind(settings, slow_down(2)) as (busy, found):
        Bucket(busy).check_writable()
        assert found.asked.count("PutObject") == 3
    with behind(settings, slow_down(1000)) as (busy, found):
        [finding] = findings(busy)
        assert "is overloaded (SlowDown)" in finding.text
        assert finding.remedy.startswith("wait")
        assert found.asked.count("PutObject") == 3
        with pytest.raises(BucketUnavailable):
            Bucket(busy).delete(["a", "b"])
        assert "DeleteObject" not in found.asked  # an overloaded server isn't asked for each object


def make_bucket(settings: Settings, name: str, *, locked: bool) -> None:
    """One that keeps versions."""
    secret = settings.s3_secret_access_key
    assert secret is not None
    client = boto3.client(
        "s3",
        endpoint_url=settings.s3_endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=secret.get_secret_value(),
    )
    client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locked)
    if not locked:  # object lock turns it on
        client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})


@pytest.mark.parametrize("locked", [False, True])
def test_a_bucket_with_versions_or_object_lock_works_and_the_doctor_says_that_it_grows(
    settings: Settings, locked: bool
) -> None:
    name = f"versioned-{uuid4().hex[:12]}"
    make_bucket(settings, name, locked=locked)
    versioned = settings.model_copy(update={"s3_bucket": name})
    ensure_bucket(versioned)
    bucket = Bucket(versioned)
    keys = store(bucket, versioned, 2)
    assert sorted(bucket.delete(keys)) == keys
    assert not is_there(bucket, keys[0])
    told = [finding for finding in findings(versioned) if finding.level == "warning"]
    assert [finding.text for finding in told] == [
        "it keeps versions, so what retention deletes stays there as an older version"
    ]


@pytest.mark.parametrize(
    ("addressing", "endpoint", "begins"),
    [
        ("auto", "https://s3.example.com", "https://s3.example.com/pictures/"),
        ("path", "https://s3.example.com", "https://s3.example.com/pictures/"),
        ("virtual", "https://s3.example.com", "https://pictures.s3.example.com/"),
        ("auto", None, "https://pictures.s3.amazonaws.com/"),
        ("path", None, "https://s3.eu-central-1.amazonaws.com/pictures/"),
    ],
)
def test_the_bucket_s_name_stands_where_s3_addressing_says(
    settings: Settings, addressing: str, endpoint: str | None, begins: str
) -> None:
    there = settings.model_copy(
        update={
            "s3_addressing": addressing,
            "s3_endpoint_url": endpoint,
            "s3_public_endpoint_url": None,
            "s3_bucket": "pictures",
            "s3_region": "eu-central-1",
            "image_urls": "presigned",
        }
    )
    url = Bucket(there).presign("a/b.png", "b.png", datetime.now(UTC) + timedelta(minutes=5))
    assert url.startswith(f"{begins}a/b.png?")
