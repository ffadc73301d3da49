"""Keeping a prediction beyond the retention time."""

from __future__ import annotations

from storage.postgres.database import Connection, Row


def set_keep(conn: Connection, prediction_id: str, *, keep: bool) -> Row | None:
    """Spare it from retention, or not any more; its row, or None if its data is gone already."""
    return conn.execute(
        "UPDATE predictions SET keep = %s WHERE id = %s AND NOT data_removed RETURNING *", (keep, prediction_id)
    ).fetchone()
