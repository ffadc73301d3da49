"""The bucket: put, read, presign and delete on S3 or anything that speaks it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from storage import crash_points
from storage.errors import DarkroomError, OperatorError
from storage.proxies import s3_proxies
from storage.settings import Settings

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger(__name__)

CHUNK_BYTES = 64 * 1024
DELETE_AT_ONCE = 1000  # what S3 takes in one request
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
ATTEMPTS = 3
PRESIGNED_FOR_AT_MOST_S = 7 * 24 * 3600


class ObjectMissing(DarkroomError):
    """The bucket has no object under that key."""


class BucketUnavailable(DarkroomError):
    """S3 did not answer, or refused; the same call may succeed later."""


@dataclass(frozen=True)
class StoredObject:
    """An object that is being read."""

    content_type: str
    size_bytes: int
    chunks: Iterator[bytes]


@dataclass(frozen=True)
class ListedObject:
    """An object as a listing tells of it."""

    key: str
    modified_at: datetime


class Bucket:
    """One bucket. Threads may share it."""

    def __init__(self, settings: Settings) -> None:
        self.name = settings.s3_bucket
        self._settings = settings
        self._client = _client(settings, settings.s3_endpoint_url)
        self._presigning: S3Client | None = None
        if settings.image_urls == "presigned":
            # Host and port are part of what is signed, so it has to be the endpoint that clients reach.
            self._presigning = _client(settings, settings.s3_public_endpoint_url or settings.s3_endpoint_url)

    def put(self, key: str, body: bytes, content_type: str) -> None:
        """Store bytes under a key. Raises BucketUnavailable."""
        try:
            self._client.put_object(Bucket=self.name, Key=key, Body=body, ContentType=content_type)
        except (ClientError, BotoCoreError) as error:
            raise BucketUnavailable(f"{key} could not be stored: {error}") from error
        crash_points.reach("after-upload")

    def open(self, key: str, part: tuple[int, int] | None = None) -> StoredObject:
        """Read an object in chunks, or only its bytes `part` (first and last). Raises ObjectMissing, BucketUnavailable.

        `size_bytes` of the answer is what will come: an S3 server that knows no ranges sends everything.
        """
        with _reading(key):
            if part is None:
                answer = self._client.get_object(Bucket=self.name, Key=key)
            else:
                answer = self._client.get_object(Bucket=self.name, Key=key, Range=f"bytes={part[0]}-{part[1]}")
        return StoredObject(
            content_type=answer["ContentType"],
            size_bytes=answer["ContentLength"],
            chunks=_chunks(answer["Body"]),
        )

    def require(self, key: str) -> None:
        """Raise ObjectMissing if there is no such object, BucketUnavailable if nobody can tell."""
        with _reading(key):
            self._client.head_object(Bucket=self.name, Key=key)

    @property
    def presigns(self) -> bool:
        """Whether IMAGE_URLS=presigned is set."""
        return self._presigning is not None

    def presign(self, key: str, file_name: str, expires_at: datetime) -> str:
        """A URL of the public endpoint that serves the object until then, but for at most 7 days: S3 allows no more.

        Nothing is asked of S3, unless its keys are temporary and have to be renewed; then the URL ends with them.
        """
        assert self._presigning is not None, "IMAGE_URLS is not presigned"
        left_s = int((expires_at - datetime.now(UTC)).total_seconds())
        return self._presigning.generate_presigned_url(
            "get_object",
            Params={
                "Bucket": self.name,
                "Key": key,
                "ResponseContentDisposition": f'inline; filename="{file_name}"',
                "ResponseCacheControl": "private, max-age=86400, immutable",
            },
            ExpiresIn=min(max(1, left_s), PRESIGNED_FOR_AT_MOST_S),
        )

    def delete(self, keys: Sequence[str]) -> list[str]:
        """Delete objects; returns the keys that S3 has confirmed, also where there was no such object.

        Raises BucketUnavailable.
        """
        deleted: list[str] = []
        for start in range(0, len(keys), DELETE_AT_ONCE):
            batch = keys[start : start + DELETE_AT_ONCE]
            try:
                answer = self._client.delete_objects(
                    Bucket=self.name, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True}
                )
            except (ClientError, BotoCoreError) as error:
                raise BucketUnavailable(f"{len(batch)} objects could not be deleted: {error}") from error
            refused = {failed.get("Key"): failed.get("Code") for failed in answer.get("Errors", [])}
            if refused:
                log.warning(
                    "bucket.not_deleted", count=len(refused), reasons=sorted({str(x) for x in refused.values()})
                )
            deleted += [key for key in batch if key not in refused or refused[key] == "NoSuchKey"]
        return deleted

    def pages(self, prefix: str) -> Iterator[list[ListedObject]]:
        """The objects whose keys begin with `prefix`, in pages of a thousand. Raises BucketUnavailable."""
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                yield [ListedObject(found["Key"], found["LastModified"]) for found in page.get("Contents", [])]
        except (ClientError, BotoCoreError) as error:
            raise BucketUnavailable(f"{prefix} could not be listed: {error}") from error

    def check(self) -> None:
        """Raise BucketUnavailable unless the bucket is there and ours."""
        try:
            self._client.head_bucket(Bucket=self.name)
        except (ClientError, BotoCoreError) as error:
            raise BucketUnavailable(f"the bucket {self.name} can't be reached: {error}") from error

    def check_writable(self) -> None:
        """Raise BucketUnavailable, with what to check, unless an object could be stored under S3_PREFIX."""
        try:
            _store_probe(self._client, self._settings)
        except (ClientError, BotoCoreError) as error:
            raise BucketUnavailable(_what_to_check(error, self._settings)) from error


@contextmanager
def _reading(key: str) -> Iterator[None]:
    """Name the errors of a call that reads an object."""
    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404"}:
            raise ObjectMissing(key) from error
        raise BucketUnavailable(f"{key} could not be read: {error}") from error
    except BotoCoreError as error:
        raise BucketUnavailable(f"{key} could not be read: {error}") from error


def _chunks(body: StreamingBody) -> Iterator[bytes]:
    """The bytes, and the connection given back also when nobody reads to the end."""
    with closing(body):
        yield from body.iter_chunks(CHUNK_BYTES)


def ensure_bucket(settings: Settings) -> None:
    """Create the bucket where it does not exist, and prove that it can be written.

    Raises OperatorError: nobody answers, the keys are wrong, or they may not write.
    """
    client = _client(settings, settings.s3_endpoint_url)
    try:
        _create(client, settings)
        _store_probe(client, settings)
    except (ClientError, BotoCoreError) as error:
        raise OperatorError(_what_to_check(error, settings)) from error


def _store_probe(client: S3Client, settings: Settings) -> None:
    """An empty object, always the same one: it stays, since who may store need not be allowed to delete."""
    key = "/".join(filter(None, [settings.s3_prefix, ".darkroom-can-write"]))
    client.put_object(Bucket=settings.s3_bucket, Key=key, Body=b"")


def _what_to_check(error: ClientError | BotoCoreError, settings: Settings) -> str:
    where = settings.s3_endpoint_url or "AWS"
    if isinstance(error, BotoCoreError):
        return f"S3 can't be reached at {where}: {error}. Check S3_ENDPOINT_URL and the S3 keys."
    code = error.response.get("Error", {}).get("Code", "")
    return (
        f"The bucket {settings.s3_bucket} at {where} refuses us ({code}): "
        "check S3_ACCESS_KEY_ID, S3_SECRET_ACCESS_KEY, S3_BUCKET and what that key may do."
    )


def _create(client: S3Client, settings: Settings) -> None:
    try:
        client.head_bucket(Bucket=settings.s3_bucket)
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") not in {"404", "NoSuchBucket"}:
            raise
        # AWS wants the region said everywhere but in its oldest one, where it refuses it.
        elsewhere: dict[str, Any] = (
            {}
            if settings.s3_region == "us-east-1"
            else {"CreateBucketConfiguration": {"LocationConstraint": settings.s3_region}}
        )
        client.create_bucket(Bucket=settings.s3_bucket, **elsewhere)


def _client(settings: Settings, endpoint_url: str | None) -> S3Client:
    secret = settings.s3_secret_access_key
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            signature_version="s3v4",  # presigning would be v2 otherwise
            # The default sends trailing checksums, which older S3 servers store inside the object.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if endpoint_url else "auto"},
            retries={"total_max_attempts": ATTEMPTS, "mode": "standard"},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            max_pool_connections=32,
            proxies=s3_proxies(endpoint_url),
        ),
    )
