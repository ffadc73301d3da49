"""The cache of results: what was drawn before is not drawn again.

Two predictions have the same `cache_key` where model, version and all parameters but the seed are equal. One that
gives a seed is answered with the images of that seed; one that says `"reuse": true` and gives none, with those of
any, all of the same token. `"cache": false` asks for a new drawing, whose result others may use.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import psycopg
import structlog

from storage.postgres.database import Connection, Row
from storage.predictions.finish import ImageGone, ReusedImage, Succeeded, finish
from storage.predictions.render import Renderer
from storage.s3.bucket import Bucket, BucketUnavailable, ObjectTimedOut
from storage.s3.lost_objects import mark_missing

log = structlog.get_logger(__name__)


def cache_key_of(model: str, version: str, parameters: dict[str, Any]) -> str:
    """What two predictions share that may have the same images: a SHA-256 over all that shapes them but the seed."""
    same = {name: value for name, value in parameters.items() if name not in ("seed", "previews")}
    return hashlib.sha256(json.dumps([model, version, same], sort_keys=True).encode()).hexdigest()


# The newest one, whose objects retention will keep the longest. Whether there is one, the submit function has seen;
# it doesn't know which objects are missing.
FIND = """
SELECT id, (parameters->>'seed')::bigint AS seed,
       (SELECT array_agg(object_key ORDER BY index) FROM images WHERE prediction_id = drawn.id) AS keys
FROM predictions AS drawn
WHERE drawn.cache_key = %(cached_as)s AND drawn.status = 'succeeded' AND NOT drawn.data_removed
  AND drawn.token_id IS NOT DISTINCT FROM %(token_id)s
  AND (%(any_seed)s OR drawn.parameters->>'seed' = %(seed)s)
  AND NOT EXISTS (
      SELECT FROM images JOIN objects ON objects.key = ANY(ARRAY[images.object_key, images.thumbnail_key])
      WHERE images.prediction_id = drawn.id AND objects.missing_since IS NOT NULL
  )
ORDER BY completed_at DESC LIMIT 1
"""
# A client waits: after so many results whose bytes are lost, it is drawn.
MAX_LOST_RESULTS = 3
DRAWN_BEFORE = "Drawn before: these are the same images"
PROGRESS = re.compile(r" *[0-9]+%\|")


def wanted(
    cache_key: str | None, token_id: int | None, given: dict[str, Any], parameters: dict[str, Any]
) -> dict[str, Any]:
    """What FIND and the submit function look for; `given` is the input as it came. Without a key, they find nothing."""
    return {
        "cached_as": None if given.get("cache") is False else cache_key,
        "token_id": token_id,
        "any_seed": given.get("reuse") is True and given.get("seed") is None,
        "seed": str(parameters.get("seed")),
    }


def reuse_result(
    conn: Connection, renderer: Renderer, bucket: Bucket, prediction: Row, *, claim_id: UUID | None = None
) -> Row | None:
    """Finish a prediction with the images of an equal one, if there is one; returns its row, or None: draw it.

    Images that the bucket has lost are no result: they are marked and not used again. If S3 doesn't answer,
    the images are taken as they are. With a `claim_id` it writes under that claim's fence.
    """
    looked_for = wanted(prediction["cache_key"], prediction["token_id"], prediction["input"], prediction["parameters"])
    if looked_for["cached_as"] is None:
        return None
    for _ in range(MAX_LOST_RESULTS):
        found = conn.execute(FIND, looked_for).fetchone()
        if found is None or not found["keys"]:
            return None
        try:
            lost = _lost_among(bucket, found["keys"])
        except ObjectTimedOut as error:  # it may be lost or not: it is drawn again, and nothing is marked
            log.warning("cache.images_not_read", prediction_id=found["id"], reason=str(error))
            return None
        if not lost:
            return _finish_with(conn, renderer, prediction, found, any_seed=looked_for["any_seed"], claim_id=claim_id)
        mark_missing(conn, lost)
        log.warning("cache.images_lost", prediction_id=found["id"], count=len(lost))
    return None


def _notes_in(logs: str) -> str:
    """What the API has said about this request, without the seed, and what an earlier attempt may have said."""
    lines = logs.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("Using seed:") and not PROGRESS.match(line))


def _lost_among(bucket: Bucket, keys: Sequence[str]) -> list[str]:
    """Which of the objects can't be read; none if S3 does not answer at all. Raises ObjectTimedOut."""
    try:
        return bucket.lost_among(keys)
    except ObjectTimedOut:
        raise
    except BucketUnavailable as error:
        log.warning("cache.not_checked", reason=str(error))
        return []


def _finish_with(
    conn: Connection, renderer: Renderer, prediction: Row, found: Row, *, any_seed: bool, claim_id: UUID | None
) -> Row | None:
    try:
        with conn.transaction():
            if any_seed:  # it has that seed from now on, also for those who look for its result
                conn.execute(
                    "UPDATE predictions SET parameters = jsonb_set(parameters, '{seed}', to_jsonb(%s::bigint))"
                    " WHERE id = %s",
                    (found["seed"], prediction["id"]),
                )
            outcome = Succeeded(
                [ReusedImage(found["id"], index) for index in range(len(found["keys"]))],
                logs=f"Using seed: {found['seed']}\n{_notes_in(prediction['logs'])}{DRAWN_BEFORE}\n",
                metrics={"cached": True, "predict_time": 0.0},  # clients read it wherever a prediction succeeded
            )
            row = finish(conn, renderer, prediction["id"], outcome, claim_id=claim_id)
            if row is None:
                raise psycopg.Rollback
            return row
    except (ImageGone, psycopg.errors.ForeignKeyViolation):  # retention has just removed them
        return None
    return None
