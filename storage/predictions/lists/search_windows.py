"""The windows of time that a search goes through: opening the next one, and filling those from before migration 0016.

The courier does both, every minute (`courier/search_index.py`). Without it, searches find the same, but more slowly.
"""

from __future__ import annotations

from storage.postgres.database import Connection

# Predictions in a window. A search collects at most so many matches before it sorts them, which takes milliseconds;
# with fewer, a search that finds little would have to look into more windows.
WINDOW = 16_384
# One transaction stays short: retention, and owners who keep or delete, wait for it.
BATCH = 250


def open_window(conn: Connection) -> bool:
    """Begin a new window if the last one is full; whether it did.

    It begins in a minute, when every transaction that writes terms sees it.
    """
    opened = conn.execute(
        """
        WITH latest AS (SELECT max(starts_at) AS starts_at FROM search_windows)
        INSERT INTO search_windows (starts_at)
        SELECT clock_timestamp() + interval '1 minute' FROM latest
        WHERE (
            SELECT count(*) FROM (
                SELECT FROM predictions WHERE created_at >= latest.starts_at LIMIT %(window)s
            ) AS newest
        ) >= %(window)s
        ON CONFLICT DO NOTHING
        """,
        {"window": WINDOW},
    )
    return opened.rowcount > 0


def fill_window(conn: Connection) -> int | None:
    """Index some of what ended before migration 0016, the newest first; how many, or None if nothing is left to do now.

    The rows are locked against changes: what is deleted meanwhile must not come back in the index. Those that others
    have locked are left for later.
    """
    with conn.transaction():
        window = conn.execute(
            """
            SELECT number, starts_at::text, coalesce((
                SELECT min(later.starts_at) FROM search_windows AS later WHERE later.starts_at > own.starts_at
            ), 'infinity')::text AS ends_at
            FROM search_windows AS own WHERE NOT filled ORDER BY starts_at DESC LIMIT 1
            """
        ).fetchone()
        if window is None:
            return None
        indexed = conn.execute(INDEX, window | {"batch": BATCH}).rowcount
        if not indexed and not conn.execute(FILLED, window).rowcount:
            return None
    return indexed


# What has ended in a window and isn't indexed.
MISSING = """
FROM predictions
WHERE created_at >= %(starts_at)s::timestamptz AND created_at < %(ends_at)s::timestamptz
  AND completed_at IS NOT NULL AND deleted_at IS NULL
  AND NOT EXISTS (SELECT FROM prediction_terms WHERE prediction_id = predictions.id)
"""
INDEX = f"""
INSERT INTO prediction_terms (prediction_id, created_at, terms)
SELECT id, created_at, darkroom_terms(predictions) {MISSING}
LIMIT %(batch)s FOR NO KEY UPDATE SKIP LOCKED
ON CONFLICT DO NOTHING
"""
FILLED = f"""
UPDATE search_windows SET filled = true WHERE number = %(number)s AND NOT EXISTS (SELECT {MISSING})
"""  # noqa: S608 (constants)
