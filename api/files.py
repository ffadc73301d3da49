"""Images by signed URL, streamed from the bucket: a browser opens them, no token is needed."""

from __future__ import annotations

from flask import Blueprint, Response, request

from api.auth import open_to_all
from api.errors import NotFound, Problem
from api.server.threads import expect_to_sleep
from api.services import services
from storage.access.links import EXTENSIONS, THUMBNAIL_EXTENSION
from storage.bucket import ObjectMissing
from storage.predictions.read import read_file

blueprint = Blueprint("files", __name__)

# What a URL serves never changes, so it may be kept; only by whoever fetched it, since it was signed for them.
CACHE_CONTROL = "private, max-age=86400, immutable"


@blueprint.get("/files/<prediction_id>/<name>")
@open_to_all
def get(prediction_id: str, name: str) -> Response:
    expires, signature = request.args.get("expires", ""), request.args.get("signature", "")
    if not services().wire.links.verify(f"{prediction_id}/{name}", expires, signature):
        raise Problem(403, "Forbidden", "the link is not genuine, or it has expired: GET the prediction for a new one")
    with services().pool.connection() as conn:
        index, _, extension = name.partition(".")
        file = read_file(conn, prediction_id, int(index), thumbnail=extension == THUMBNAIL_EXTENSION)
    if file is None:
        raise NotFound("the image was removed")
    try:
        stored = services().bucket.open(file.key)
    except ObjectMissing:
        raise NotFound("the image was removed") from None
    expect_to_sleep()  # a slow client takes it as slowly as it likes
    shown_name = f"{prediction_id}-{index}.{EXTENSIONS[file.content_type]}"
    return Response(
        stored.chunks,
        content_type=file.content_type,
        headers={
            "Content-Length": str(stored.size_bytes),
            "Cache-Control": CACHE_CONTROL,
            "Content-Disposition": f'inline; filename="{shown_name}"',
        },
    )
