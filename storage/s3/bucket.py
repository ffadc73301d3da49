"""The bucket: put, read, presign and delete on S3 or anything that speaks it."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import IO, TYPE_CHECKING, Any, Literal

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, ReadTimeoutError

from storage import crash_points
from storage.errors import DarkroomError, OperatorError
from storage.proxies import s3_proxies
from storage.s3.content_md5 import sign_content
from storage.s3.deletes import delete_objects
from storage.s3.errors import Diagnosis, code_of, diagnose, in_words
from storage.settings import Settings

if TYPE_CHECKING:
    from botocore.response import StreamingBody
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger(__name__)

CHUNK_BYTES = 64 * 1024
CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
ATTEMPTS = 3
PRESIGNED_FOR_AT_MOST_S = 7 * 24 * 3600

# While a client waits for the answer to its POST, S3 is asked once and not for long.
QUICK_CONNECT_TIMEOUT_S = 1
QUICK_READ_TIMEOUT_S = 3
# If S3 was too slow for that, it isn't asked again so soon: an outage must not slow every answer down.
QUICK_PAUSE_S = 5.0

# Where a key may not list the bucket, S3 answers 403 for an object that doesn't exist.
DENIED = {"AccessDenied", "Forbidden", "403"}
MISSING = {"NoSuchKey", "404"}
PROBE = b"Darkroom stores and reads this object to see whether the bucket works.\n"
ARCHIVED = "InvalidObjectState"  # a lifecycle rule has moved it to an archive class


class ObjectMissing(DarkroomError):
    """The bucket has no object under that key."""


class BucketUnavailable(DarkroomError):
    """S3 did not answer, or refused; the same call may succeed later."""

    diagnosis: Diagnosis | None = None  # where it is known what to do


class ObjectUnreadable(BucketUnavailable):
    """S3 can't read this object, and it can read another one: the bytes are lost, or some part of S3 is down."""


class ObjectTimedOut(BucketUnavailable):
    """S3 did not give this object in time, and it gives others: it may be lost, or that part of S3 may be busy."""


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
        session = _session()
        self._client = _client(settings, settings.s3_endpoint_url, session)
        self._quick_client = _client(
            settings,
            settings.s3_endpoint_url,
            session,
            attempts=1,
            connect_timeout_s=QUICK_CONNECT_TIMEOUT_S,
            read_timeout_s=QUICK_READ_TIMEOUT_S,
        )
        self._ask_quickly_again_at = 0.0  # of time.monotonic()
        self.deletes_one_by_one = False  # found out at the first deletion
        self._presigning: S3Client | None = None
        if settings.image_urls == "presigned":
            # Host and port are part of what is signed, so it has to be the endpoint that clients reach.
            endpoint_url = settings.s3_public_endpoint_url or settings.s3_endpoint_url
            self._presigning = _client(settings, endpoint_url, session)

    def put(self, key: str, body: bytes | IO[bytes], content_type: str) -> None:
        """Store bytes, or what a file holds from where it stands, under a key. Raises BucketUnavailable."""
        try:
            self._client.put_object(Bucket=self.name, Key=key, Body=body, ContentType=content_type)
        except (ClientError, BotoCoreError) as error:
            raise BucketUnavailable(f"{key} could not be stored: {in_words(error, self._settings)}") from error
        crash_points.reach("after-upload")

    def open(self, key: str, part: tuple[int, int] | None = None) -> StoredObject:
        """Read an object in chunks, or only its bytes `part` (first and last).

        `size_bytes` of the answer is what will come: an S3 server that knows no ranges sends everything.
        Raises ObjectMissing, ObjectUnreadable, ObjectTimedOut, BucketUnavailable.
        """
        try:
            if part is None:
                answer = self._client.get_object(Bucket=self.name, Key=key)
            else:
                answer = self._client.get_object(Bucket=self.name, Key=key, Range=f"bytes={part[0]}-{part[1]}")
        except (ClientError, BotoCoreError) as error:
            raise self._why_not_read(self._client, key, error) from error
        return StoredObject(
            content_type=answer["ContentType"],
            size_bytes=answer["ContentLength"],
            chunks=_chunks(answer["Body"]),
        )

    def read(self, key: str) -> bytes:
        """Read a whole object. Raises ObjectMissing, ObjectUnreadable, ObjectTimedOut, BucketUnavailable."""
        stored = self.open(key)
        try:
            return b"".join(stored.chunks)
        except BotoCoreError as error:  # the connection broke halfway
            raise BucketUnavailable(f"{key} could not be read to its end: {error}") from error

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

    def lost_among(self, keys: Sequence[str]) -> list[str]:
        """The keys of objects that can't be read, found by reading one byte of each, within seconds.

        HEAD is not enough: SeaweedFS answers it from its metadata, also where the bytes are gone. Raises
        ObjectTimedOut, and BucketUnavailable: for some seconds after S3 did not answer, also without asking it.
        """
        if time.monotonic() < self._ask_quickly_again_at:
            raise BucketUnavailable("S3 did not answer a moment ago")
        lost = []
        for key in keys:
            try:
                self._quick_client.get_object(Bucket=self.name, Key=key, Range="bytes=0-0")["Body"].read()
            except (ClientError, BotoCoreError) as error:
                if isinstance(error, ClientError) and code_of(error) == "InvalidRange":  # it is there, and empty
                    continue
                why = self._why_not_read(self._quick_client, key, error)
                if isinstance(why, ObjectTimedOut):
                    raise why from error
                if not isinstance(why, (ObjectMissing, ObjectUnreadable)):
                    self._ask_quickly_again_at = time.monotonic() + QUICK_PAUSE_S
                    raise why from error
                lost.append(key)
        return lost

    def delete(self, keys: Sequence[str]) -> list[str]:
        """Delete objects; returns the keys that S3 has confirmed, also where there was no such object.

        Where the server takes one key a request, only some of them: call it again. Raises BucketUnavailable.
        """
        try:
            done = delete_objects(self._client, self.name, keys, one_by_one=self.deletes_one_by_one)
        except (ClientError, BotoCoreError) as error:
            raise BucketUnavailable(
                f"{len(keys)} objects could not be deleted: {in_words(error, self._settings)}"
            ) from error
        self.deletes_one_by_one = done.one_by_one
        return done.keys

    def pages(self, prefix: str) -> Iterator[list[ListedObject]]:
        """The objects whose keys begin with `prefix`, in pages of a thousand. Raises BucketUnavailable."""
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=prefix):
                yield [ListedObject(found["Key"], found["LastModified"]) for found in page.get("Contents", [])]
        except (ClientError, BotoCoreError) as error:
            raise BucketUnavailable(f"{prefix} could not be listed: {in_words(error, self._settings)}") from error

    def check(self) -> None:
        """Raise BucketUnavailable unless the bucket is there and ours.

        A key that may not ask for the bucket (HeadBucket), such as one for a prefix only, reads the probe instead.
        """
        try:
            self._client.head_bucket(Bucket=self.name)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and _may_not_ask(error) and self._probe_answers():
                return
            raise BucketUnavailable(
                f"the bucket {self.name} can't be reached: {in_words(error, self._settings)}"
            ) from error

    def _probe_answers(self) -> bool:
        try:
            return _read_probe(self._client, self._settings)
        except (ClientError, BotoCoreError):
            return False

    def check_writable(self) -> None:
        """Raise BucketUnavailable, with what to check, unless an object could be stored under S3_PREFIX."""
        try:
            _store_probe(self._client, self._settings)
        except (ClientError, BotoCoreError) as error:
            diagnosis = diagnose(error, self._settings)
            unavailable = BucketUnavailable(str(diagnosis))
            unavailable.diagnosis = diagnosis
            raise unavailable from error

    def keeps_versions(self) -> bool:
        """Whether the bucket keeps what is deleted as an older version; False if the key may not ask."""
        try:
            return self._client.get_bucket_versioning(Bucket=self.name).get("Status") == "Enabled"
        except (ClientError, BotoCoreError):
            return False

    def _why_not_read(
        self, client: S3Client, key: str, error: ClientError | BotoCoreError
    ) -> ObjectMissing | BucketUnavailable:
        """What an error of GetObject means.

        403, 500 and no answer in time may be about this object alone, or about the whole bucket: another object is read
        to tell.
        """
        why = BucketUnavailable(f"{key} could not be read: {in_words(error, self._settings)}")
        if isinstance(error, ReadTimeoutError):  # SeaweedFS looks for lost bytes for some seconds
            if self._can_read_another(client):
                return ObjectTimedOut(f"{key} was not read in time, and other objects were: {error}")
            return why
        if not isinstance(error, ClientError):
            return why
        code = code_of(error)
        if code in MISSING or (code in DENIED and self._can_read_another(client)):
            return ObjectMissing(key)
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
        if code == ARCHIVED or (status == 500 and self._can_read_another(client)):
            return ObjectUnreadable(f"{key} can't be read, and other objects can: {error}")
        return why

    def _can_read_another(self, client: S3Client) -> bool:
        """Whether the probe can be read. If it can't, it is written again, since its bytes may be lost too."""
        try:
            if _read_probe(client, self._settings):
                return True
        except ClientError:
            pass
        except BotoCoreError:
            return False
        try:
            _store_probe(client, self._settings)
            return _read_probe(client, self._settings)
        except (ClientError, BotoCoreError):
            return False


def _chunks(body: StreamingBody) -> Iterator[bytes]:
    """The bytes. The connection is given back also if the caller doesn't read to the end."""
    with closing(body):
        yield from body.iter_chunks(CHUNK_BYTES)


@functools.cache
def _session() -> boto3.session.Session:
    """One for all: reading the service's description takes most of a second."""
    return boto3.session.Session()


def read_service_description() -> None:
    """Read it now, for the processes that are forked from this one. Nothing is connected, and no key is looked for."""
    # With no key at all, boto3 would look for one, over the network too.
    _session().client(
        "s3",
        region_name="us-east-1",
        aws_access_key_id="nobody's",
        aws_secret_access_key="nobody's",  # noqa: S106  # nosec B106
    )


def ensure_bucket(settings: Settings) -> None:
    """Create the bucket where it does not exist, and prove that it can be written.

    Raises OperatorError if the server doesn't answer, the keys are wrong, or they may not write.
    """
    client = _client(settings, settings.s3_endpoint_url)
    try:
        _create_if_missing(client, settings)
    except (ClientError, BotoCoreError) as error:
        raise OperatorError(str(diagnose(error, settings))) from error


def _store_probe(client: S3Client, settings: Settings) -> None:
    """A small object, always the same one: it stays, since who may store need not be allowed to delete."""
    client.put_object(Bucket=settings.s3_bucket, Key=_probe_key(settings), Body=PROBE)


def _read_probe(client: S3Client, settings: Settings) -> bool:
    """Whether its bytes are there: those of an older release have none, so to read them proves nothing."""
    return client.get_object(Bucket=settings.s3_bucket, Key=_probe_key(settings))["Body"].read() == PROBE


def _probe_key(settings: Settings) -> str:
    return "/".join(filter(None, [settings.s3_prefix, ".darkroom-can-write"]))


def _may_not_ask(error: ClientError) -> bool:
    """Whether HeadBucket itself may be what is refused: its answer has no body, and says no more than a number."""
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    return status in {400, 403, 405, 501}


def _create_if_missing(client: S3Client, settings: Settings) -> None:
    """A key for a prefix only may not ask for the bucket; then storing the probe shows whether it is there."""
    try:
        client.head_bucket(Bucket=settings.s3_bucket)
    except ClientError as error:
        if not _may_not_ask(error):
            if code_of(error) not in {"404", "NoSuchBucket"}:
                raise
            _create(client, settings)
    try:
        _store_probe(client, settings)
    except ClientError as error:
        if code_of(error) != "NoSuchBucket":
            raise
        _create(client, settings)
        _store_probe(client, settings)


def _create(client: S3Client, settings: Settings) -> None:
    # AWS wants the region said everywhere but in its oldest one, where it refuses it.
    elsewhere: dict[str, Any] = (
        {}
        if settings.s3_region == "us-east-1"
        else {"CreateBucketConfiguration": {"LocationConstraint": settings.s3_region}}
    )
    client.create_bucket(Bucket=settings.s3_bucket, **elsewhere)


def _client(
    settings: Settings,
    endpoint_url: str | None,
    session: boto3.session.Session | None = None,
    *,
    attempts: int | None = None,
    connect_timeout_s: float = CONNECT_TIMEOUT_S,
    read_timeout_s: float = READ_TIMEOUT_S,
) -> S3Client:
    secret = settings.s3_secret_access_key
    client = (session or _session()).client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=settings.s3_region,
        verify=str(settings.s3_ca_bundle) if settings.s3_ca_bundle else None,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            signature_version="s3v4",  # presigning would be v2 otherwise
            # The default sends trailing checksums, which older S3 servers store inside the object.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": _addressing(settings, endpoint_url)},
            retries={"total_max_attempts": attempts or ATTEMPTS, "mode": "standard"},
            connect_timeout=connect_timeout_s,
            read_timeout=read_timeout_s,
            max_pool_connections=32,
            proxies=s3_proxies(endpoint_url),
        ),
    )
    sign_content(client)
    return client


def _addressing(settings: Settings, endpoint_url: str | None) -> Literal["auto", "path", "virtual"]:
    """Where the bucket's name stands: https://bucket.host/key, or https://host/bucket/key."""
    if settings.s3_addressing == "virtual":
        return "virtual"
    return "path" if settings.s3_addressing == "path" or endpoint_url else "auto"
