"""Files that clients upload, to name them in later requests. A file belongs to a token, and expires."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from psycopg.types.json import Jsonb

from storage.postgres.database import Connection, Row
from storage.predictions.lists.page import Page
from storage.predictions.read import StoredFile
from storage.predictions.retention.expiry import BATCH, bury_objects

READ = """
SELECT files.*, objects.sha256, objects.size_bytes, objects.content_type,
       clock_timestamp() - objects.missing_since AS missing_for
FROM files JOIN objects ON objects.key = files.object_key
"""


def add_file(
    conn: Connection,
    *,
    file_id: str,
    token_id: int | None,
    name: str,
    object_key: str,
    md5: str,
    metadata: dict[str, Any],
    expires_after: timedelta | None,
) -> Row:
    """Write a file whose bytes are stored (`storage.s3.sent_objects`); returns its row. `expires_after` None: never."""
    conn.execute(
        """
        INSERT INTO files (id, token_id, name, object_key, md5, metadata, expires_at)
        VALUES (%(id)s, %(token_id)s, %(name)s, %(object_key)s, %(md5)s, %(metadata)s,
                clock_timestamp() + %(expires_after)s::interval)
        """,
        {
            "id": file_id,
            "token_id": token_id,
            "name": name,
            "object_key": object_key,
            "md5": md5,
            "metadata": Jsonb(metadata),
            "expires_after": expires_after,
        },
    )
    row = read_file_row(conn, file_id)
    assert row is not None
    return row


def read_file_row(conn: Connection, file_id: str) -> Row | None:
    """A file with its object's sha256, size_bytes, content_type and missing_for; None: there is none, or it expired."""
    return conn.execute(
        f"{READ} WHERE files.id = %s AND (expires_at IS NULL OR expires_at > clock_timestamp())", (file_id,)
    ).fetchone()


def stored_file_of(row: Row) -> StoredFile:
    """Where the bytes of such a row are stored."""
    return StoredFile(row["object_key"], row["content_type"], row["size_bytes"], row["sha256"], row["missing_for"])


def read_files(conn: Connection, page: Page, *, token_id: int | None) -> list[Row]:
    """A page, newest first. With a `token_id`, only those of that token."""
    owner = "true" if token_id is None else "token_id = %(token_id)s"
    # The bounds of a page are on `created_at` and `id`, which only `files` has once it stands alone.
    listed = f"""
        SELECT * FROM files
        WHERE {owner} AND (expires_at IS NULL OR expires_at > clock_timestamp()) AND {page.bounds()}
        ORDER BY created_at {page.order}, id {page.order} LIMIT %(limit)s
    """  # noqa: S608 (words of ours)
    return page.in_order(
        conn.execute(
            f"{READ.replace('FROM files', f'FROM ({listed}) AS files')}"
            f" ORDER BY files.created_at {page.order}, files.id {page.order}",
            page.values() | {"token_id": token_id},
        ).fetchall()
    )


def count_files(conn: Connection, token_id: int | None) -> int:
    """How many files a token has; None: those that belong to no token."""
    row = conn.execute(
        """
        SELECT count(*) AS n FROM files
        WHERE token_id IS NOT DISTINCT FROM %s AND (expires_at IS NULL OR expires_at > clock_timestamp())
        """,
        (token_id,),
    ).fetchone()
    assert row is not None
    n: int = row["n"]
    return n


def delete_file(conn: Connection, file_id: str) -> bool:
    """Delete a file; the courier deletes its bytes within a minute. False: there was none."""
    with conn.transaction():
        row = conn.execute("DELETE FROM files WHERE id = %s RETURNING object_key", (file_id,)).fetchone()
        if row is None:
            return False
        bury_objects(conn, [row["object_key"]])
    return True


def expire_files(conn: Connection) -> int:
    """Delete files whose time is over; returns how many of a batch."""
    with conn.transaction():
        rows = conn.execute(
            """
            DELETE FROM files WHERE id IN (
                SELECT id FROM files WHERE expires_at < clock_timestamp() LIMIT %s FOR UPDATE SKIP LOCKED
            ) RETURNING object_key
            """,
            (BATCH,),
        ).fetchall()
        if rows:
            bury_objects(conn, [row["object_key"] for row in rows])
    return len(rows)
