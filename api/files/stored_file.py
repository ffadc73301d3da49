"""Opens the object of an image, and answers with an error if the bucket has lost its bytes."""

from __future__ import annotations

from datetime import timedelta

import structlog

from api.errors import Problem
from api.services import Services
from storage.predictions.read import StoredFile
from storage.s3.bucket import ObjectMissing, ObjectUnreadable, StoredObject
from storage.s3.lost_objects import mark_found, mark_missing

log = structlog.get_logger(__name__)

# If S3 fails to read an object, the object may be readable again when a failed S3 node is back. Until this time has
# passed, the client is asked to try again.
LOST_AFTER = timedelta(seconds=60)


def open_file(here: Services, file: StoredFile, part: tuple[int, int] | None = None) -> StoredObject:
    """The object, or only its bytes `part` (first and last), its mark as missing taken away if it had one.

    Raises Problem (410) and marks the object where its bytes are lost; BucketUnavailable where S3 may give them later.
    """
    try:
        stored = here.bucket.open(file.key, part)
    except ObjectMissing:
        _mark(here, file)
        raise _lost() from None
    except ObjectUnreadable:
        _mark(here, file)
        if file.missing_for is not None and file.missing_for >= LOST_AFTER:
            raise _lost() from None
        raise
    if file.missing_for is not None:
        with here.pool.connection() as conn:
            mark_found(conn, file.key)
        log.info("object.found_again", key=file.key)
    return stored


def _mark(here: Services, file: StoredFile) -> None:
    if file.missing_for is not None:
        return
    with here.pool.connection() as conn:
        mark_missing(conn, [file.key])
    log.warning("object.missing", key=file.key)


def _lost() -> Problem:
    return Problem(
        410,
        "Gone",
        "the image store has lost this file: send the prediction's request again to get a new one"
        " (with a new Idempotency-Key, if it had one)",
        headers={"Cache-Control": "no-store"},  # it may come back
    )
