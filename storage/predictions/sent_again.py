"""Pictures that a request carried, named again by the descriptions that its prediction's `input` shows."""

from __future__ import annotations

from storage.postgres.database import Connection
from storage.predictions.read import StoredFile


def find_sent_again(conn: Connection, sent_as: str, *, token_id: int | None, is_mask: bool) -> StoredFile | None:
    """The stored picture of that description, the largest if there are several; None: there is none any more.

    Only predictions of that token are looked at (None: of all), so that a hash gives nobody another token's picture. An
    image isn't found as a mask, nor a mask as an image: what is stored of them differs.
    """
    row = conn.execute(
        """
        SELECT objects.key, objects.content_type, objects.size_bytes, objects.sha256,
               clock_timestamp() - objects.missing_since AS missing_for
        FROM input_images
        JOIN predictions ON predictions.id = input_images.prediction_id
        JOIN objects ON objects.key = input_images.object_key
        WHERE input_images.sent_as = %(sent_as)s AND (input_images.name = 'mask') = %(is_mask)s
          AND predictions.deleted_at IS NULL
          AND (%(token_id)s::bigint IS NULL OR predictions.token_id = %(token_id)s)
        ORDER BY objects.missing_since IS NOT NULL, objects.size_bytes DESC LIMIT 1
        """,
        {"sent_as": sent_as, "is_mask": is_mask, "token_id": token_id},
    ).fetchone()
    return None if row is None else StoredFile(**row)
