"""S3: an object can be stored, read, signed for and deleted, and the clocks agree."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

import urllib3
from botocore.exceptions import BotoCoreError, ClientError

from cli.doctor.finding import Finding, broken, first_line, warning, well
from storage.s3.bucket import Bucket, BucketUnavailable, ObjectMissing
from storage.settings import Settings

PART = "bucket"
BODY = b"darkroom doctor"
TOLERATED_S = 60.0  # S3 refuses requests whose clock is off by 15 minutes


def check_bucket(settings: Settings) -> Iterator[Finding]:
    try:
        bucket = Bucket(settings)
    except (ValueError, BotoCoreError) as error:
        yield broken(PART, f"can't be used: {first_line(error)}", "check the settings that begin with S3_")
        return
    try:
        bucket.check_writable()
    except BucketUnavailable as error:
        known = error.diagnosis
        what, remedy = (known.what, known.remedy) if known else (first_line(error), "check the settings S3_*")
        yield broken(PART, what, remedy)
        return
    key = f"{settings.s3_prefix}/.darkroom-doctor".lstrip("/")
    began = time.monotonic()
    try:
        bucket.put(key, BODY, "text/plain")
        stored = b"".join(bucket.open(key).chunks)
    except (BucketUnavailable, ObjectMissing) as error:
        yield broken(PART, f"an object can't be read back: {first_line(error)}", "allow s3:GetObject to this key")
        return
    if stored != BODY:
        yield broken(PART, "another object came back than the one stored", "look for a cache in front of the bucket")
    yield well(PART, f"an object is stored and read in {1000 * (time.monotonic() - began):.0f} ms")
    if bucket.presigns:
        yield _presigned(bucket, key)
    try:
        if bucket.delete([key]) != [key]:
            raise BucketUnavailable("S3 kept it")
    except (BucketUnavailable, ClientError) as error:
        yield warning(
            PART,
            f"an object can't be deleted: {first_line(error)}",
            "allow s3:DeleteObject to this key, or retention fills the bucket",
        )
    else:
        each = ", in a request of its own: this server doesn't take many at once" if bucket.deletes_one_by_one else ""
        yield well(PART, f"an object is deleted{each}")
    if bucket.keeps_versions():
        yield warning(
            PART,
            "it keeps versions, so what retention deletes stays there as an older version",
            "add a lifecycle rule that expires noncurrent versions, or suspend versioning",
        )
    yield from _clock(settings)


def _presigned(bucket: Bucket, key: str) -> Finding:
    url = bucket.presign(key, "doctor.txt", datetime.now(UTC) + timedelta(minutes=5))
    remedy = "S3_PUBLIC_ENDPOINT_URL has to be the address of the same S3 server for clients"
    try:
        answer = urllib3.request("GET", url, retries=False, timeout=10)
    except urllib3.exceptions.HTTPError as error:
        return broken(PART, f"presigned URLs can't be opened from here: {first_line(error)}", remedy)
    if answer.status != 200 or answer.data != BODY:
        return broken(PART, f"a presigned URL answered {answer.status}", remedy)
    return well(PART, "presigned URLs can be opened")


def _clock(settings: Settings) -> Iterator[Finding]:
    verify = {"ca_certs": str(settings.s3_ca_bundle)} if settings.s3_ca_bundle else {}
    try:
        with urllib3.PoolManager(**verify) as pool:  # type: ignore[arg-type]
            said = pool.request("GET", settings.s3_endpoint_url or "", retries=False, timeout=10).headers.get("Date")
    except (urllib3.exceptions.HTTPError, ValueError):
        return
    if said is None:
        return
    difference_s = (datetime.now(UTC) - parsedate_to_datetime(said)).total_seconds()
    if abs(difference_s) > TOLERATED_S:
        yield warning(
            PART,
            f"its clock and this machine's differ by {difference_s:.0f} s; from 15 minutes on, S3 refuses everything",
            "let this machine synchronize its clock (NTP)",
        )
