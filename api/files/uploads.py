"""Replicate's files API: a client uploads a file once, and uses its URL in requests until it expires."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any
from urllib.parse import quote

import structlog
from flask import Blueprint, Response, request
from ulid import ULID
from werkzeug.datastructures import FileStorage

from api.auth import caller, needs, open_to_all
from api.browsers.cross_site import for_all_pages
from api.docs.forms import FileAnswer, FileForm, FilePage
from api.docs.operation import documented
from api.docs.parameters import SIGNED
from api.errors import InvalidInput, NotFound, Problem
from api.files.signed_link import require_signed_link
from api.files.stored_file import open_file
from api.parsing.list_query import query
from api.parsing.paging import asked_page, list_page
from api.pictures.large_bodies import may_carry_pictures
from api.pictures.sent import PIECE_CHARS
from api.predictions.ownership import is_id
from api.schemas import MAX_METADATA_BYTES
from api.server.threads import expect_to_sleep
from api.services import services
from storage import files
from storage.access.scopes import Scope
from storage.postgres.database import Connection, Row
from storage.predictions.object_keys import file_key
from storage.predictions.render import FOR_EVER, dump, timestamp
from storage.s3.sent_objects import SentObject, begin_to_store

log = structlog.get_logger(__name__)

blueprint = Blueprint("uploads", __name__)

PAGE = 100
MAX_NAME_CHARS = 255
MAX_TYPE_CHARS = 127


@blueprint.post("/files")
@documented(
    "Upload a file",
    {201: FileAnswer},
    section="Files",
    form=FileForm,
    errors=(400, 413, 415, 422),
    details="Name it in requests by its `urls.get` until it expires (`RETENTION_S`).",
)
@needs(Scope.DRAW)
@may_carry_pictures
def create() -> Response:
    here, owner = services(), caller().token_id
    content = _content()
    name, content_type, metadata = _name(content), _type(content), _metadata()
    with here.pool.connection() as conn:
        if files.count_files(conn, owner) >= here.settings.max_files:
            detail = f"there are {here.settings.max_files} files already (MAX_FILES): delete some, or let them expire"
            raise Problem(422, "Too many files", detail)
    sha256, md5, size_bytes = _digests(content)
    limit = here.settings.max_input_image_bytes
    if not 0 < size_bytes <= limit:
        raise InvalidInput("content", f"has {size_bytes} bytes; from 1 to {limit} are taken (MAX_INPUT_IMAGE_BYTES)")
    file_id = str(ULID()).lower()
    key = file_key(here.settings.s3_prefix, file_id)
    with here.pool.connection() as conn:
        begin_to_store(conn, SentObject(key, sha256, size_bytes, content_type))
    expect_to_sleep()
    here.bucket.put(key, content.stream, content_type)
    with here.pool.connection() as conn:
        row = files.add_file(
            conn,
            file_id=file_id,
            token_id=owner,
            name=name,
            object_key=key,
            md5=md5,
            metadata=metadata,
            expires_after=here.settings.retention,
        )
    log.info("file.uploaded", file_id=file_id, size_bytes=size_bytes)
    return _answer(_file(row), 201)


@blueprint.get("/files")
@documented("Your uploaded files, newest first", {200: FilePage}, section="Files", query=("cursor",), errors=(422,))
@needs(Scope.READ)
def list_files() -> Response:
    given = query("cursor")
    page = asked_page(given.get("cursor"), PAGE)
    with services().pool.connection() as conn:
        found = list_page(files.read_files(conn, page, token_id=caller().token_id), page, "/v1/files")
    return _answer({"next": found.next, "previous": found.previous, "results": [_file(row) for row in found.rows]})


@blueprint.get("/files/<file_id>")
@documented("An uploaded file", {200: FileAnswer}, section="Files", errors=(404,))
@needs(Scope.READ)
def get(file_id: str) -> Response:
    with services().pool.connection() as conn:
        return _answer(_file(_own(conn, file_id)))


@blueprint.delete("/files/<file_id>")
@documented(
    "Delete an uploaded file",
    {204: None},
    section="Files",
    errors=(404,),
    details="Predictions that were made from it keep their own copy of the picture.",
)
@needs(Scope.DRAW)
def delete(file_id: str) -> Response:
    with services().pool.connection() as conn:
        _own(conn, file_id)
        if not files.delete_file(conn, file_id):
            raise _no_such(file_id)
    log.info("file.deleted", file_id=file_id)
    return Response(status=204)


@blueprint.get("/files/<file_id>/download")
@documented(
    "The bytes of an uploaded file, by signed URL (`urls.download`)",
    {200: None},
    section="Files",
    media="application/octet-stream",
    query=SIGNED,
    errors=(403, 404, 410, 503),
)
@for_all_pages
@open_to_all
def download(file_id: str) -> Response:
    require_signed_link(file_id, "download", what="file")
    with services().pool.connection() as conn:
        row = files.read_file_row(conn, file_id)
    if row is None:
        raise _no_such(file_id)
    stored = open_file(services(), files.stored_file_of(row))
    expect_to_sleep()
    # The uploader chose the bytes and their type, so a browser must not render them as a page of this origin.
    headers = {
        "Content-Length": str(stored.size_bytes),
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(row['name'])}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "Cache-Control": "private, no-store",
    }
    return Response(stored.chunks, content_type=row["content_type"], headers=headers)


def _own(conn: Connection, file_id: str) -> Row:
    """The file, if it belongs to the caller. Raises the same NotFound for a missing file and for another caller's."""
    row = files.read_file_row(conn, file_id) if is_id(file_id) else None
    if row is None or not caller().owns(row):
        raise _no_such(file_id)
    return row


def _no_such(file_id: str) -> NotFound:
    return NotFound(f"there is no file {file_id[:60]!r}: it was deleted, or it has expired")


def _content() -> FileStorage:
    if request.mimetype != "multipart/form-data":
        raise Problem(
            415,
            "Unsupported media type",
            "the body needs to be multipart/form-data with the file in the field `content`",
        )
    content = request.files.get("content")
    if content is None:
        raise InvalidInput("content", "is required: the file, as a part with a filename")
    return content


def _name(content: FileStorage) -> str:
    given = request.form.get("filename") or content.filename or "file"
    name = os.path.basename(given.replace("\\", "/"))
    if not name.isprintable() or len(name) > MAX_NAME_CHARS:
        raise InvalidInput("filename", f"needs at most {MAX_NAME_CHARS} printable characters")
    return name or "file"


def _type(content: FileStorage) -> str:
    given = request.form.get("type") or content.mimetype or "application/octet-stream"
    if len(given) > MAX_TYPE_CHARS or not given.isascii() or not given.isprintable() or given.count("/") != 1:
        raise InvalidInput("type", f"is not a media type such as image/png, of at most {MAX_TYPE_CHARS} characters")
    return given


def _metadata() -> dict[str, Any]:
    """The field `metadata`: a JSON object, as text or as a part of its own (Replicate's npm client sends a Blob)."""
    part = request.files.get("metadata")
    text = (
        request.form.get("metadata", "") if part is None else part.read(MAX_METADATA_BYTES + 1).decode(errors="replace")
    )
    if not text:
        return {}
    if len(text.encode()) > MAX_METADATA_BYTES:
        raise InvalidInput("metadata", f"must not have more than {MAX_METADATA_BYTES} bytes as JSON")
    try:
        metadata = json.loads(text, parse_constant=_refuse)
        # Python reads 1e999 as an infinite number, which JSON can't hold.
        if not isinstance(metadata, dict) or "\\u0000" in json.dumps(metadata, allow_nan=False):
            raise ValueError
        json.dumps(metadata, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        raise InvalidInput("metadata", "is not a JSON object that can be stored") from None
    return metadata


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _digests(content: FileStorage) -> tuple[str, str, int]:
    """SHA-256 and MD5 in hexadecimal, and the size in bytes. Rewinds the file."""
    sha256, md5, size_bytes = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
    while piece := content.stream.read(PIECE_CHARS):
        sha256.update(piece)
        md5.update(piece)
        size_bytes += len(piece)
    content.stream.seek(0)
    return sha256.hexdigest(), md5.hexdigest(), size_bytes


def _file(row: Row) -> dict[str, Any]:
    """Replicate's file object; `urls.download` is ours: signed, so that it needs no token."""
    links = services().renderer.links
    return {
        "id": row["id"],
        "name": row["name"],
        "content_type": row["content_type"],
        "size": row["size_bytes"],
        "etag": row["sha256"],
        "checksums": {"sha256": row["sha256"], "md5": row["md5"]},
        "metadata": row["metadata"],
        "created_at": timestamp(row["created_at"]),
        "expires_at": timestamp(row["expires_at"]),
        "urls": {
            "get": f"{links.public_url}/v1/files/{row['id']}",
            "download": links.of_upload(row["id"], row["expires_at"] or FOR_EVER),
        },
    }


def _answer(body: dict[str, Any], status: int = 200) -> Response:
    return Response(dump(body), status, content_type="application/json")
