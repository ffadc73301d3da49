"""Keeping a prediction beyond the retention time."""

from __future__ import annotations

from storage.postgres.database import Connection, Row
from storage.postgres.notify import notify


def set_keep(conn: Connection, prediction_id: str, *, keep: bool) -> Row | None:
    """Spare it from retention, or not any more; its row, or None if its data is gone already."""
    with conn.transaction():
        row = conn.execute(
            "UPDATE predictions SET keep = %s WHERE id = %s AND NOT data_removed RETURNING *", (keep, prediction_id)
        ).fetchone()
        if row is not None:
            notify(conn, row)
    return row
