"""Objects whose bytes the bucket has lost: marked in their rows, so that no answer refers to them any more.

The mark is taken away when the object can be read again (a restored bucket). Retention removes the rows as any others.
"""

from __future__ import annotations

from collections.abc import Sequence

from storage.postgres.database import Connection


def mark_missing(conn: Connection, keys: Sequence[str]) -> int:
    """Write down that these objects can't be read; returns how many were not marked before."""
    return conn.execute(
        "UPDATE objects SET missing_since = clock_timestamp() WHERE key = ANY(%s) AND missing_since IS NULL",
        (list(keys),),
    ).rowcount


def mark_found(conn: Connection, key: str) -> None:
    """The object was read: what was noted about it before no longer holds."""
    conn.execute("UPDATE objects SET missing_since = NULL WHERE key = %s AND missing_since IS NOT NULL", (key,))


def count_missing(conn: Connection) -> int:
    """How many objects are marked, images and thumbnails."""
    row = conn.execute("SELECT count(*) AS n FROM objects WHERE missing_since IS NOT NULL").fetchone()
    assert row is not None
    n: int = row["n"]
    return n
