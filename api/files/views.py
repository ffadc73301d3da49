"""Serves images by signed URL, streamed from the bucket. A browser can open them, because no token is needed."""

from __future__ import annotations

from flask import Blueprint, Response, request

from api.auth import open_to_all
from api.browsers.cross_site import for_all_pages
from api.docs.operation import documented
from api.docs.parameters import SIGNED
from api.errors import NotFound, Problem
from api.files.ranges import ByteRange, Unsatisfiable, parse_range
from api.files.signed_link import require_signed_link
from api.files.stored_file import open_file
from api.server.threads import expect_to_sleep
from api.services import services
from storage.formats import THUMBNAIL_EXTENSION, extension_of
from storage.predictions.read import StoredFile, read_file

blueprint = Blueprint("files", __name__)

# The content behind a URL never changes, so clients may cache it. Shared caches may not, because the URL is signed.
CACHE_CONTROL = "private, max-age=86400, immutable"


@blueprint.get("/files/<prediction_id>/<name>")
@documented(
    "An image, by signed URL (`output`)",
    {200: None, 206: None, 304: None},
    section="Files",
    media="image/*",
    query=SIGNED,
    headers=("Range", "If-None-Match"),
    errors=(403, 404, 410, 412, 416, 503),
    details="`ETag` is the SHA-256 of the file. One range of bytes is served as 206; for several, the whole "
    "file is served.",
)
@for_all_pages
@open_to_all
def get(prediction_id: str, name: str) -> Response:
    require_signed_link(prediction_id, name)
    with services().pool.connection() as conn:
        index, _, extension = name.partition(".")
        file = read_file(conn, prediction_id, int(index), thumbnail=extension == THUMBNAIL_EXTENSION)
    if file is None:
        raise NotFound("the image was removed")
    response = _not_modified(file) or _serve(file)
    response.headers["ETag"] = _etag(file)
    response.headers["Cache-Control"] = CACHE_CONTROL
    response.headers["Accept-Ranges"] = "bytes"
    if response.status_code != 304:
        shown_name = f"{prediction_id}-{index}.{extension_of(file.content_type)}"
        response.headers["Content-Disposition"] = f'inline; filename="{shown_name}"'
    return response


def _etag(file: StoredFile) -> str:
    """A strong validator: the same bytes have the same ETag under every URL."""
    return f'"{file.sha256}"'


def _not_modified(file: StoredFile) -> Response | None:
    """The response to a client that already has the file, without asking the bucket. Raises Problem for If-Match."""
    if request.headers.get("If-Match") is not None and not request.if_match.contains(file.sha256):
        raise Problem(412, "Precondition failed", "the file is not the one that If-Match names")
    if not request.if_none_match.contains_weak(file.sha256):
        return None
    response = Response(status=304)
    del response.headers["Content-Type"]
    return response


def _serve(file: StoredFile) -> Response:
    if request.method == "HEAD":
        _require_bytes(file)
        return Response(content_type=file.content_type, headers={"Content-Length": str(file.size_bytes)})
    part = _asked_range(file)
    stored = open_file(services(), file, (part.first, part.last) if part else None)
    expect_to_sleep()  # S3 sends it as slowly as it likes
    response = Response(
        stored.chunks, content_type=file.content_type, headers={"Content-Length": str(stored.size_bytes)}
    )
    if part is not None and stored.size_bytes == part.size_bytes:  # else S3 sent the whole object
        response.status_code = 206
        response.headers["Content-Range"] = f"bytes {part.first}-{part.last}/{file.size_bytes}"
    return response


def _require_bytes(file: StoredFile) -> None:
    """Read one byte: SeaweedFS answers HEAD from its metadata, also where the bytes are lost. Raises Problem."""
    for _ in open_file(services(), file, (0, 0)).chunks:
        pass


def _asked_range(file: StoredFile) -> ByteRange | None:
    """What the Range header asks for; None is the whole file. Raises Problem."""
    # If-Range with a date never matches, since a file has no Last-Modified here: then the whole file is served.
    if request.method != "GET" or request.headers.get("If-Range") not in (None, _etag(file)):
        return None
    try:
        return parse_range(request.headers.get("Range"), file.size_bytes)
    except Unsatisfiable:
        headers = {"Content-Range": f"bytes */{file.size_bytes}", "Accept-Ranges": "bytes", "ETag": _etag(file)}
        detail = f"the file has {file.size_bytes} bytes; {request.headers['Range']!r} asks for none of them"
        raise Problem(416, "Range not satisfiable", detail, headers=headers) from None
