"""Reading what somebody follows who follows all predictions of a token, or all that there are."""

from __future__ import annotations

from collections.abc import Collection

from storage.postgres.database import Connection, Row

UNFINISHED_AT_MOST = 1_000


def read_unfinished(conn: Connection, token_id: int | None) -> list[Row]:
    """Those that wait or are drawn, as far as the queue is concerned: at most UNFINISHED_AT_MOST, the oldest first.

    `token_id`: of that token; None: of everybody.
    """
    owner = "true" if token_id is None else "token_id = %(token_id)s"
    return conn.execute(
        f"""
        SELECT id, model, status, attempt, logs FROM predictions
        WHERE {owner} AND status IN ('starting', 'processing') AND deleted_at IS NULL
        ORDER BY created_at, id LIMIT %(most)s
        """,  # noqa: S608 (words of ours)
        {"token_id": token_id, "most": UNFINISHED_AT_MOST},
    ).fetchall()


def read_changed(conn: Connection, token_id: int | None, ids: Collection[str]) -> list[Row]:
    """Whole rows, in the order of `ids`, without those of other tokens. Deleted ones are there, with `deleted_at`."""
    owner = "true" if token_id is None else "token_id = %(token_id)s"
    return conn.execute(
        f"""
        SELECT predictions.* FROM unnest(%(ids)s::text[]) WITH ORDINALITY AS changed (id, place)
        JOIN predictions USING (id)
        WHERE {owner} ORDER BY place
        """,  # noqa: S608 (words of ours)
        {"token_id": token_id, "ids": list(ids)},
    ).fetchall()
