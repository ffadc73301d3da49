"""Content-MD5 in requests that some S3 servers refuse without it.

boto3 sends newer checksums in its place. Older Ceph and Google Cloud Storage want Content-MD5 in DeleteObjects, and
buckets with object lock want it in PutObject.
"""

from __future__ import annotations

import base64
import hashlib
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

OPERATIONS = ("DeleteObjects", "PutObject")
PIECE_BYTES = 1 << 20


def sign_content(client: S3Client) -> None:
    """Let a client send Content-MD5 with these operations."""
    for operation in OPERATIONS:
        client.meta.events.register(f"before-call.s3.{operation}", _add_content_md5)


def _add_content_md5(params: dict[str, Any], **_: Any) -> None:
    body = params["body"]
    if "Content-MD5" not in params["headers"]:
        whole = isinstance(body, (bytes, bytearray))
        digest = hashlib.md5(body, usedforsecurity=False) if whole else _digest_of_rest(body)
        params["headers"]["Content-MD5"] = base64.b64encode(digest.digest()).decode()


def _digest_of_rest(file: IO[bytes]) -> Any:
    """The digest of what a file holds from where it stands; it stands there again afterwards."""
    start, digest = file.tell(), hashlib.md5(usedforsecurity=False)
    while piece := file.read(PIECE_BYTES):
        digest.update(piece)
    file.seek(start)
    return digest
