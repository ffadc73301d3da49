"""Whether the database and the bucket belong together, as they have to after a restore.

A row without its object is a lost picture: `repair` marks it, so that its URL answers 410 and the same request is drawn
anew. An object without a row is younger than the restored dump, or left over by a worker that died; retention removes
those (`storage.predictions.retention.expiry.sweep_orphans`), so nothing is deleted here.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta

from storage.postgres.database import Connection
from storage.predictions.object_keys import files_folder, folder, inputs_folder
from storage.predictions.retention.expiry import SPARE_SENT_FOR
from storage.s3.bucket import Bucket, ObjectTimedOut
from storage.s3.lost_objects import mark_found, mark_missing

# For the life of the connection. A listing of millions of keys takes minutes, and rows come and go meanwhile.
LISTED = "CREATE TEMPORARY TABLE darkroom_listed (key text PRIMARY KEY, modified_at timestamptz NOT NULL)"
ADD = """
INSERT INTO darkroom_listed SELECT * FROM unnest(%s::text[], %s::timestamptz[]) ON CONFLICT DO NOTHING
"""
# Of what a client sends, the row is written before the bytes; of what is drawn, the bytes before the row.
LOST = """
SELECT key FROM objects WHERE created_at < %(began_at)s AND missing_since IS NULL
    AND (sent_at IS NULL OR sent_at < %(began_at)s - %(spare)s)
    AND NOT EXISTS (SELECT FROM darkroom_listed WHERE darkroom_listed.key = objects.key)
ORDER BY key
"""
FOUND = "SELECT key FROM objects JOIN darkroom_listed USING (key) WHERE missing_since IS NOT NULL ORDER BY key"
UNKNOWN = """
SELECT count(*) AS n FROM darkroom_listed AS listed WHERE modified_at < %(began_at)s - %(spare)s
    AND NOT EXISTS (SELECT FROM objects WHERE objects.key = listed.key)
    AND NOT EXISTS (SELECT FROM object_tombstones AS tombstone WHERE tombstone.key = listed.key)
"""


@dataclass
class BucketReport:
    """Keys and counts. `lost` and `found` are not marked as such in the database yet, unless `repair` is called."""

    rows: int = 0
    objects: int = 0
    unknown: int = 0  # objects without a row
    lost: list[str] = field(default_factory=list)  # rows whose object can't be read
    found: list[str] = field(default_factory=list)  # rows marked as lost whose object can be read


def check_bucket(
    conn: Connection, bucket: Bucket, *, s3_prefix: str, spare: timedelta = SPARE_SENT_FOR
) -> BucketReport:
    """Compare all rows with a listing of the bucket. Raises BucketUnavailable.

    `spare`: how old an object without a row has to be; a younger one may just have been drawn.
    A listing doesn't read: S3 servers may list an object whose bytes are gone. Those are found when they are read.
    """
    now = conn.execute("SELECT clock_timestamp() AS began_at, count(*) AS rows FROM objects").fetchone()
    assert now is not None
    report = BucketReport(rows=now["rows"])
    values = {"began_at": now["began_at"], "spare": spare}
    conn.execute(LISTED)
    for part in (folder(s3_prefix), inputs_folder(s3_prefix), files_folder(s3_prefix)):
        for page in bucket.pages(part):
            conn.execute(ADD, ([listed.key for listed in page], [listed.modified_at for listed in page]))
            report.objects += len(page)
    report.lost = list(_lost_among(bucket, [row["key"] for row in conn.execute(LOST, values)]))
    found = [row["key"] for row in conn.execute(FOUND)]
    still_lost = set(_lost_among(bucket, found))
    report.found = [key for key in found if key not in still_lost]
    unknown = conn.execute(UNKNOWN, values).fetchone()
    assert unknown is not None
    report.unknown = unknown["n"]
    conn.execute("DROP TABLE darkroom_listed")
    return report


def repair(conn: Connection, report: BucketReport) -> None:
    """Write down what is lost, and what can be read again."""
    mark_missing(conn, report.lost)
    for key in report.found:
        mark_found(conn, key)


def _lost_among(bucket: Bucket, keys: list[str]) -> Iterator[str]:
    """Those of the keys that can't be read either: a listing may be older than an object."""
    for key in keys:
        try:
            yield from bucket.lost_among([key])
        except ObjectTimedOut:  # it may be there, only slowly
            continue
