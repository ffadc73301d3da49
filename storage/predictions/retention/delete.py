"""Deleting a prediction at its owner's wish: its data goes at once, the record stays for the accounts."""

from __future__ import annotations

from storage.postgres.database import Connection
from storage.postgres.notify import notify
from storage.predictions.finish import Canceled, finish
from storage.predictions.render import Renderer
from storage.predictions.retention.expiry import bury_objects, remove_data


def delete_prediction(conn: Connection, renderer: Renderer, prediction_id: str) -> bool:
    """Cancel it if it isn't over, and remove its data; False if there is none, or it was deleted before.

    Input with its pictures, metadata, output, logs, images and webhook deliveries go, also those that were not sent
    yet. Objects that no other prediction refers to are marked as deleted; the courier deletes their bytes within a
    minute. What remains is the row, without anything that the client sent: when it was made, how it ended, and what it
    cost.
    """
    with conn.transaction():
        finish(conn, renderer, prediction_id, Canceled())
        deleted = conn.execute(
            """
            UPDATE predictions SET deleted_at = clock_timestamp(), keep = false
            WHERE id = %s AND deleted_at IS NULL RETURNING *
            """,
            (prediction_id,),
        ).fetchone()
        if deleted is None:
            return False
        keys = [
            row["key"]
            for row in conn.execute(
                """
                SELECT object_key AS key FROM images WHERE prediction_id = %(id)s
                UNION SELECT thumbnail_key FROM images WHERE prediction_id = %(id)s AND thumbnail_key IS NOT NULL
                UNION SELECT object_key FROM input_images WHERE prediction_id = %(id)s
                """,
                {"id": prediction_id},
            )
        ]
        remove_data(conn, [prediction_id])
        bury_objects(conn, keys)
        notify(conn, deleted)
    return True
