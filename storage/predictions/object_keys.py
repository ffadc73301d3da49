"""The keys of pictures in the bucket: how they are made, and how retention reads them."""

from __future__ import annotations

import re
from uuid import UUID

# What follows the folder.
KEY = re.compile(r"(?P<id>[0-9a-z]{26})/(?P<attempt>\d{1,9})-[0-9a-f-]{36}/[^/]+")


def key_of(s3_prefix: str, prediction_id: str, attempt: int, claim_id: UUID, index: int, extension: str) -> str:
    """`{S3_PREFIX}/predictions/{id}/{attempt}-{claim_id}/{n}.{ext}`: no two claims write the same object."""
    return f"{folder(s3_prefix)}{prediction_id}/{attempt}-{claim_id}/{index}.{extension}"


def parse_key(s3_prefix: str, key: str) -> tuple[str, int] | None:
    """The prediction's id and the attempt; None for what is no key of an image."""
    match = KEY.fullmatch(key.removeprefix(folder(s3_prefix)))
    return None if match is None else (match["id"], int(match["attempt"]))


def input_key(s3_prefix: str, sha256: str) -> str:
    """`{S3_PREFIX}/inputs/{sha256}`: a picture that requests start from; the same bytes are one object."""
    return f"{inputs_folder(s3_prefix)}{sha256}"


def file_key(s3_prefix: str, file_id: str) -> str:
    """`{S3_PREFIX}/files/{id}`: a file that a client has uploaded."""
    return f"{files_folder(s3_prefix)}{file_id}"


def folder(s3_prefix: str) -> str:
    """Where all drawn images lie; ends with a slash."""
    return f"{s3_prefix}/predictions/" if s3_prefix else "predictions/"


def inputs_folder(s3_prefix: str) -> str:
    """Where all pictures lie that requests start from; ends with a slash."""
    return f"{s3_prefix}/inputs/" if s3_prefix else "inputs/"


def files_folder(s3_prefix: str) -> str:
    """Where all uploaded files lie; ends with a slash."""
    return f"{s3_prefix}/files/" if s3_prefix else "files/"
