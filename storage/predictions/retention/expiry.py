"""What is kept, and for how long: predictions lose their data, objects that no row refers to lose their bytes.

Bytes go in three moves, so that a crash between any two leaves no byte without a row that knows of it: the object's
row becomes a tombstone, S3 deletes the bytes, the tombstone goes. Orphans, which never had a row, are found by
listing the bucket. Everything lies under `{S3_PREFIX}/predictions/`, `{S3_PREFIX}/inputs/` and `{S3_PREFIX}/files/`;
nothing else is ever touched.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from storage.postgres.database import Connection
from storage.predictions.object_keys import files_folder, folder, inputs_folder, parse_key
from storage.s3.bucket import Bucket, ListedObject

# One transaction stays short, and holds few locks.
BATCH = 200
# S3 takes this many in one request.
S3_BATCH = 1000

# What a client sends has its row before its bytes are stored, and is referred to only after that. Bytes may take their
# time: three tries of a slow S3 server are about two minutes.
SPARE_SENT_FOR = timedelta(minutes=10)

# Every column that refers to an object. A test compares them with the tables, so none is forgotten.
REFERRING = (
    ("files", "object_key"),
    ("images", "object_key"),
    ("images", "thumbnail_key"),
    ("input_images", "object_key"),
)
UNREFERRED = " AND ".join(
    f"NOT EXISTS (SELECT FROM {table} WHERE {table}.{column} = objects.key)" for table, column in REFERRING
)


def expire_predictions(conn: Connection, *, older_than: timedelta) -> int:
    """Take the data out of predictions that ended so long ago; returns how many of a batch.

    Input, parameters, metadata, output, logs, the webhook's address and the deliveries with their bodies go; what
    remains says that the prediction was, and how it ended. Its Idempotency-Key is free again: the same request is
    redrawn, since there is nothing left to answer it with. One whose deliveries are still pending waits for them.
    """
    with conn.transaction():
        expired = [
            row["id"]
            for row in conn.execute(
                """
                SELECT id FROM predictions
                WHERE completed_at < clock_timestamp() - %(older_than)s AND NOT data_removed AND NOT keep
                  AND NOT EXISTS (
                      SELECT FROM webhook_deliveries AS delivery
                      WHERE delivery.prediction_id = predictions.id AND delivery.status = 'pending'
                  )
                ORDER BY completed_at LIMIT %(batch)s
                FOR UPDATE SKIP LOCKED
                """,
                {"older_than": older_than, "batch": BATCH},
            )
        ]
        if expired:
            remove_data(conn, expired)
    return len(expired)


def remove_data(conn: Connection, prediction_ids: Sequence[str]) -> None:
    """Take the data out of these predictions, in the caller's transaction, which has locked their rows."""
    ids = list(prediction_ids)
    conn.execute("DELETE FROM images WHERE prediction_id = ANY(%s)", (ids,))
    conn.execute("DELETE FROM input_images WHERE prediction_id = ANY(%s)", (ids,))
    conn.execute("DELETE FROM webhook_deliveries WHERE prediction_id = ANY(%s)", (ids,))
    conn.execute(
        """
        UPDATE predictions
        SET data_removed = true, input = '{}', parameters = '{}', metadata = '{}', logs = '', webhook = NULL,
            idempotency_key = NULL, request_hash = NULL, cache_key = NULL, traceparent = NULL
        WHERE id = ANY(%s)
        """,
        (ids,),
    )


def bury_objects(conn: Connection, among: Sequence[str] | None = None) -> int:
    """Turn the rows of objects that no row refers to into tombstones; returns how many of a batch.

    With `among`, only these objects are looked at, also those that clients have sent in the last SPARE_SENT_FOR: a
    request that is about to refer to one fails on the foreign key, and stores it again.

    The lock is had before the question is asked a second time: whoever refers to the object meanwhile is either
    seen, or fails on the foreign key.
    """
    looked_at = (
        "(sent_at IS NULL OR sent_at < clock_timestamp() - %(spare)s)" if among is None else "key = ANY(%(among)s)"
    )
    with conn.transaction():
        keys = [
            row["key"]
            for row in conn.execute(
                f"""
                SELECT key FROM objects
                WHERE {looked_at} AND {UNREFERRED}
                LIMIT %(batch)s FOR UPDATE SKIP LOCKED
                """,  # noqa: S608 (constants)
                {"among": list(among or ()), "spare": SPARE_SENT_FOR, "batch": BATCH},
            )
        ]
        return conn.execute(
            f"""
            WITH buried AS (DELETE FROM objects WHERE key = ANY(%s) AND {UNREFERRED} RETURNING key)
            INSERT INTO object_tombstones (key) SELECT key FROM buried ON CONFLICT DO NOTHING
            """,  # noqa: S608 (constants)
            (keys,),
        ).rowcount


def remove_bytes(conn: Connection, bucket: Bucket, *, s3_prefix: str) -> int:
    """Delete the bytes of buried objects; returns how many S3 has confirmed, whose tombstones go.

    Raises BucketUnavailable; the tombstones are there at the next call.
    """
    removed = _remove_input_bytes(conn, bucket, s3_prefix)
    keys = [
        row["key"]
        for row in conn.execute(
            """
            SELECT key FROM object_tombstones
            WHERE starts_with(key, %s) OR starts_with(key, %s) ORDER BY created_at LIMIT %s
            """,
            (folder(s3_prefix), files_folder(s3_prefix), S3_BATCH),
        )
    ]
    return removed + _delete_buried(conn, bucket, keys)


def _remove_input_bytes(conn: Connection, bucket: Bucket, s3_prefix: str) -> int:
    """The same for pictures that requests start from, whose keys come again with the same picture.

    While S3 deletes them their tombstones are locked, for which a request that stores one of them waits
    (`storage.s3.sent_objects`). What has a row again is not deleted.
    """
    with conn.transaction():
        keys = [
            row["key"]
            for row in conn.execute(
                """
                SELECT key FROM object_tombstones WHERE starts_with(key, %s)
                ORDER BY created_at LIMIT %s FOR UPDATE SKIP LOCKED
                """,
                (inputs_folder(s3_prefix), BATCH),
            )
        ]
        conn.execute(
            """
            DELETE FROM object_tombstones AS tombstone
            WHERE key = ANY(%s) AND EXISTS (SELECT FROM objects WHERE objects.key = tombstone.key)
            """,
            (keys,),
        )
        buried = conn.execute("SELECT key FROM object_tombstones WHERE key = ANY(%s)", (keys,)).fetchall()
        return _delete_buried(conn, bucket, [row["key"] for row in buried])


def _delete_buried(conn: Connection, bucket: Bucket, keys: list[str]) -> int:
    removed = bucket.delete(keys)
    conn.execute("DELETE FROM object_tombstones WHERE key = ANY(%s)", (removed,))
    # What S3 refuses to delete goes to the end of the queue, or a thousand of them would be asked for for ever.
    conn.execute(
        "UPDATE object_tombstones SET created_at = clock_timestamp() WHERE key = ANY(%s)",
        (list(set(keys) - set(removed)),),
    )
    return len(removed)


def sweep_orphans(conn: Connection, bucket: Bucket, *, s3_prefix: str, unknown_after: timedelta | None) -> int:
    """Delete objects that no row names and none will ever name; returns how many.

    That is a drawing whose worker died, or lost its claim, between upload and commit: its prediction is over, or
    has a newer claim. Where the prediction itself is unknown (the database may be a restored backup, and the
    object younger than it), only what is older than `unknown_after` goes (None: nothing does). What clients have sent
    has its row before its bytes, so that an object without a row is always unknown in this sense. Raises
    BucketUnavailable.
    """
    swept = 0
    for page in bucket.pages(folder(s3_prefix)):
        swept += len(bucket.delete(_orphans_among(conn, page, s3_prefix, unknown_after)))
    if unknown_after is None:
        return swept
    for sent in (inputs_folder(s3_prefix), files_folder(s3_prefix)):
        for page in bucket.pages(sent):
            _bury_unknown(conn, page, unknown_after)
            while removed := remove_bytes(conn, bucket, s3_prefix=s3_prefix):
                swept += removed
    return swept


def _bury_unknown(conn: Connection, page: Sequence[ListedObject], unknown_after: timedelta) -> None:
    """A tombstone for each object that no row names; `remove_bytes` looks again whether one does."""
    conn.execute(
        """
        INSERT INTO object_tombstones (key)
        SELECT found.key FROM unnest(%(keys)s::text[], %(modified_at)s::timestamptz[]) AS found (key, modified_at)
        WHERE NOT EXISTS (SELECT FROM objects WHERE objects.key = found.key)
          AND found.modified_at < clock_timestamp() - %(unknown_after)s::interval
        ON CONFLICT DO NOTHING
        """,
        {
            "keys": [listed.key for listed in page],
            "modified_at": [listed.modified_at for listed in page],
            "unknown_after": unknown_after,
        },
    )


def _orphans_among(
    conn: Connection, page: Sequence[ListedObject], s3_prefix: str, unknown_after: timedelta | None
) -> list[str]:
    found = [(listed, parsed) for listed in page if (parsed := parse_key(s3_prefix, listed.key)) is not None]
    rows = conn.execute(
        """
        SELECT found.key
        FROM unnest(%(keys)s::text[], %(ids)s::text[], %(attempts)s::int[], %(modified_at)s::timestamptz[])
            AS found (key, prediction_id, attempt, modified_at)
        LEFT JOIN predictions ON predictions.id = found.prediction_id
        WHERE NOT EXISTS (SELECT FROM objects WHERE objects.key = found.key)
          AND NOT EXISTS (SELECT FROM object_tombstones AS tombstone WHERE tombstone.key = found.key)
          AND (predictions.completed_at IS NOT NULL OR predictions.attempt > found.attempt
               OR predictions.id IS NULL AND found.modified_at < clock_timestamp() - %(unknown_after)s::interval)
        """,
        {
            "keys": [listed.key for listed, _ in found],
            "ids": [prediction_id for _, (prediction_id, _) in found],
            "attempts": [attempt for _, (_, attempt) in found],
            "modified_at": [listed.modified_at for listed, _ in found],
            "unknown_after": unknown_after,
        },
    )
    return [row["key"] for row in rows]
