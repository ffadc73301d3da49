"""The cache of results: what was drawn before is not drawn again.

Two predictions have the same `cache_key` where model, version and all parameters but the seed are equal. One that
gives a seed is answered with the images of that seed; one that says `"reuse": true` and gives none, with those of
any, all of the same token. `"cache": false` asks for a new drawing, whose result others may use.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any
from uuid import UUID

import psycopg

from storage.postgres.database import Connection, Row
from storage.predictions.finish import ImageGone, ReusedImage, Succeeded, finish
from storage.predictions.render import Wire


def cache_key_of(model: str, version: str, parameters: dict[str, Any]) -> str:
    """What two predictions share that may have the same images: a SHA-256 over all that shapes them but the seed."""
    same = {name: value for name, value in parameters.items() if name not in ("seed", "previews")}
    return hashlib.sha256(json.dumps([model, version, same], sort_keys=True).encode()).hexdigest()


# The newest one, whose objects retention will keep the longest. Whether there is one, the submit function has seen.
FIND = """
SELECT id, (parameters->>'seed')::bigint AS seed,
       (SELECT count(*) FROM images WHERE prediction_id = drawn.id) AS images
FROM predictions AS drawn
WHERE drawn.cache_key = %(cached_as)s AND drawn.status = 'succeeded' AND NOT drawn.data_removed
  AND drawn.token_id IS NOT DISTINCT FROM %(token_id)s
  AND (%(any_seed)s OR drawn.parameters->>'seed' = %(seed)s)
ORDER BY completed_at DESC LIMIT 1
"""


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


def reuse_result(conn: Connection, wire: Wire, prediction: Row, *, claim_id: UUID | None = None) -> Row | None:
    """Finish a prediction with the images of an equal one, if there is one; returns its row, or None: draw it.

    With a `claim_id` it writes under that claim's fence.
    """
    looked_for = wanted(prediction["cache_key"], prediction["token_id"], prediction["input"], prediction["parameters"])
    if looked_for["cached_as"] is None:
        return None
    try:
        with conn.transaction():
            found = conn.execute(FIND, looked_for).fetchone()
            if found is None or found["images"] == 0:
                return None
            if looked_for["any_seed"]:  # it has that seed from now on, also for those who look for its result
                conn.execute(
                    "UPDATE predictions SET parameters = jsonb_set(parameters, '{seed}', to_jsonb(%s::bigint))"
                    " WHERE id = %s",
                    (found["seed"], prediction["id"]),
                )
            outcome = Succeeded(
                [ReusedImage(found["id"], index) for index in range(found["images"])],
                logs=f"Using seed: {found['seed']}\nDrawn before: these are the same images\n",
                metrics={"cached": True, "predict_time": 0.0},  # clients read it wherever a prediction succeeded
            )
            row = finish(conn, wire, prediction["id"], outcome, claim_id=claim_id)
            if row is None:
                raise psycopg.Rollback
            return row
    except (ImageGone, psycopg.errors.ForeignKeyViolation):  # retention has just removed them
        return None
    return None
