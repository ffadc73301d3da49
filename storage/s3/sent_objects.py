"""Objects whose bytes clients have sent: their rows are written first, then their bytes.

So no byte is ever without a row. A picture's key is its SHA-256, so several requests may store the same object while
retention removes it. They wait for each other in the database: `begin_to_store` waits for a removal that has begun, and
a removal leaves out what has a row again. The bytes are written after that.
"""

from __future__ import annotations

from dataclasses import dataclass

from storage.postgres.database import Connection


@dataclass(frozen=True)
class SentObject:
    """A file that a client has sent, as it is to be stored."""

    key: str
    sha256: str  # hexadecimal
    size_bytes: int
    content_type: str


def begin_to_store(conn: Connection, sent: SentObject) -> bool:
    """Write the object's row, which retention spares for a while; False if a prediction refers to it already.

    Only then its bytes are known to be stored. Else store them now, and then write what refers to the row.
    """
    with conn.transaction():
        row = conn.execute(
            """
            INSERT INTO objects (key, sha256, size_bytes, content_type, sent_at)
            VALUES (%(key)s, %(sha256)s, %(size_bytes)s, %(content_type)s, clock_timestamp())
            ON CONFLICT (key) DO UPDATE SET sent_at = clock_timestamp()
            RETURNING missing_since IS NULL
                AND EXISTS (SELECT FROM input_images WHERE object_key = objects.key) AS is_stored
            """,
            vars(sent),
        ).fetchone()
        assert row is not None
        conn.execute("DELETE FROM object_tombstones WHERE key = %s", (sent.key,))  # waits while its bytes are removed
    return not row["is_stored"]
