"""Deleting many objects: a thousand a request where the server takes that, else one a request."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from storage.s3.errors import NOT_THIS_WAY, code_of

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

log = structlog.get_logger(__name__)

AT_ONCE = 1000  # what S3 takes in one request
# One after the other, at perhaps 20 ms each: the caller may hold locks meanwhile.
ONE_BY_ONE_AT_ONCE = 100
DENIED = {"AccessDenied", "Forbidden", "403"}


@dataclass(frozen=True)
class Deleted:
    """What S3 has confirmed, and whether it took one key a request."""

    keys: list[str]
    one_by_one: bool


def delete_objects(client: S3Client, bucket: str, keys: Sequence[str], *, one_by_one: bool) -> Deleted:
    """Delete objects. Raises ClientError, BotoCoreError if S3 refuses or doesn't answer, and nothing was deleted.

    `one_by_one`: the server is known to refuse DeleteObjects. Then at most ONE_BY_ONE_AT_ONCE of the keys are deleted.
    """
    if one_by_one:
        return Deleted(_delete_each(client, bucket, keys), one_by_one=True)
    deleted: list[str] = []
    for start in range(0, len(keys), AT_ONCE):
        batch = keys[start : start + AT_ONCE]
        try:
            deleted += _delete_batch(client, bucket, batch)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and code_of(error) in NOT_THIS_WAY | DENIED:
                each = _delete_each(client, bucket, batch)  # raises where that is refused too
                log.warning("bucket.deletes_one_by_one", reason=code_of(error))
                return Deleted(deleted + each, one_by_one=True)
            if not deleted:
                raise
            break
    return Deleted(deleted, one_by_one=False)


def _delete_batch(client: S3Client, bucket: str, batch: Sequence[str]) -> list[str]:
    answer = client.delete_objects(Bucket=bucket, Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True})
    refused = {failed.get("Key"): failed.get("Code") for failed in answer.get("Errors", [])}
    if refused:
        log.warning("bucket.not_deleted", count=len(refused), reasons=sorted({str(x) for x in refused.values()}))
    return [key for key in batch if key not in refused or refused[key] == "NoSuchKey"]


def _delete_each(client: S3Client, bucket: str, keys: Sequence[str]) -> list[str]:
    """Ends at the first error, so that a server that refuses, or has too much to do, isn't asked again and again."""
    deleted: list[str] = []
    for key in keys[:ONE_BY_ONE_AT_ONCE]:
        try:
            client.delete_object(Bucket=bucket, Key=key)
        except (ClientError, BotoCoreError) as error:
            if isinstance(error, ClientError) and code_of(error) in {"NoSuchKey", "404"}:
                deleted.append(key)
                continue
            if not deleted:
                raise
            log.warning("bucket.not_deleted", count=1, reasons=[type(error).__name__])
            break
        deleted.append(key)
    return deleted
