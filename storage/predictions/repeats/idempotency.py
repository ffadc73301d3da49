"""Idempotency-Key: the same request under the same key of the same token is one prediction."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from psycopg.errors import UniqueViolation

from storage.errors import DarkroomError
from storage.postgres.database import Connection, Row

CONSTRAINT = "uq_predictions_idempotency_key"


class KeyReused(DarkroomError):
    """The key belongs to another request."""


def hash_of(route: str, body: dict[str, Any]) -> str:
    """What two requests under one key must share: the route, and the body (in any order of its keys)."""
    canonical = json.dumps(body, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{route}\n{canonical}".encode()).hexdigest()


def is_about_key(error: UniqueViolation) -> bool:
    """Whether the insert failed since the key exists, not for another reason."""
    return error.diag.constraint_name == CONSTRAINT


def read_by_key(conn: Connection, token_id: int | None, key: str, request_hash: str | None) -> Row | None:
    """The prediction of that key as it is now, or None. Raises KeyReused where its request was another one.

    It waits for a retention run that is removing the prediction's data: that frees the key. A prediction whose data an
    older release has removed still holds its key, which is freed here.
    """
    owner = "token_id IS NULL" if token_id is None else "token_id = %(token_id)s"
    row = conn.execute(
        f"SELECT * FROM predictions WHERE {owner} AND idempotency_key = %(key)s FOR SHARE",  # noqa: S608 (one of two constants)
        {"token_id": token_id, "key": key},
    ).fetchone()
    if row is not None and row["data_removed"]:
        conn.execute(
            "UPDATE predictions SET idempotency_key = NULL, request_hash = NULL WHERE id = %s AND data_removed",
            (row["id"],),
        )
        return None
    if row is not None and row["request_hash"] != request_hash:
        raise KeyReused(
            f"the key {key[:60]!r} was used for another request, which made prediction {row['id']}: "
            "send a new key with a new request"
        )
    return row
