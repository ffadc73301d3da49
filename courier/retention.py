"""The courier's thread that removes what has been kept long enough, in small batches, beside everything else.

Any number of couriers may do it at once: each skips what another one has locked, and deleting twice is fine.
"""

import threading
import time

import psycopg
import structlog

from storage import files
from storage.operator.activity import forget_old_activity
from storage.postgres.database import Connection, connect
from storage.predictions.retention import expiry
from storage.s3.bucket import Bucket, BucketUnavailable
from storage.settings import Settings

log = structlog.get_logger(__name__)

RETAIN_EVERY_S = 60.0
# Reads the whole bucket, a thousand names a request. A crash leaves at most one orphan, so there is no hurry.
SWEEP_EVERY_S = 3600.0
# Between two batches, so that requests get their turn.
PAUSE_S = 0.05


def keep_retaining(settings: Settings, stop: threading.Event) -> None:
    """Remove what is old, every minute until `stop` is set, through any failure of the database and of the bucket."""
    bucket = Bucket(settings)
    swept_at: float | None = None
    while not stop.wait(RETAIN_EVERY_S):
        now = time.monotonic()
        sweep = swept_at is None or now - swept_at >= SWEEP_EVERY_S
        try:
            with connect(settings.direct_url, application_name="darkroom-retention") as conn:
                retain_once(conn, bucket, settings, sweep=sweep, stop=stop)
            swept_at = now if sweep else swept_at
        except (psycopg.Error, BucketUnavailable) as error:
            log.warning("retention interrupted", error=" ".join(str(error).split()))
        except Exception:
            log.exception("retention broke")


def retain_once(
    conn: Connection, bucket: Bucket, settings: Settings, *, sweep: bool, stop: threading.Event | None = None
) -> None:
    """One round. Raises psycopg.Error, BucketUnavailable; what is left over is there for the next round.

    With RETENTION_S=0 no prediction expires; what a crash left behind in the bucket is removed all the same.
    """
    stop = stop or threading.Event()
    older_than = settings.retention
    expired = buried = removed = orphans = expired_files = 0
    while not stop.is_set() and (count := files.expire_files(conn)):
        expired_files += count
        stop.wait(PAUSE_S)
    while older_than is not None and not stop.is_set():
        count = expiry.expire_predictions(conn, older_than=older_than)
        if not count:
            break
        expired += count
        stop.wait(PAUSE_S)
    if expired or sweep:
        while not stop.is_set() and (count := expiry.bury_objects(conn)):
            buried += count
            stop.wait(PAUSE_S)
    while not stop.is_set() and (count := expiry.remove_bytes(conn, bucket, s3_prefix=settings.s3_prefix)):
        removed += count
    if sweep and not stop.is_set():
        orphans = expiry.sweep_orphans(conn, bucket, s3_prefix=settings.s3_prefix, unknown_after=older_than)
    forget_old_activity(conn)
    if expired or expired_files or buried or removed or orphans:
        log.info(
            "removed what is old",
            predictions=expired,
            files=expired_files,
            objects=buried,
            bytes_of=removed,
            orphans=orphans,
        )
