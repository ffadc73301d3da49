"""The database's clock, which all machines share: one whose own clock is wrong checks links and signs as others do."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.postgres.database import Connection

log = structlog.get_logger(__name__)

READ_EVERY_S = 60.0
TRY_AGAIN_AFTER_S = 5.0
WORTH_SAYING = timedelta(seconds=5)


class DatabaseClock:
    """`now()` is the database's time, within the time of a round trip. It asks once a minute. Thread-safe."""

    def __init__(self, pool: ConnectionPool[Connection]) -> None:
        self._pool = pool
        self._lock = threading.Lock()
        self._read: tuple[datetime, float] | None = None  # the database's time, and time.monotonic() then
        self._read_again_at = 0.0
        self._has_said = False

    def now(self) -> datetime:
        """While the database is away it goes on from the last reading. If there was none, this machine's own time."""
        if time.monotonic() >= self._read_again_at and self._lock.acquire(blocking=self._read is None):
            try:
                if time.monotonic() >= self._read_again_at:
                    self._ask()
            finally:
                self._lock.release()
        if self._read is None:
            return datetime.now(UTC)
        moment, at = self._read
        return moment + timedelta(seconds=time.monotonic() - at)

    def _ask(self) -> None:
        try:
            with self._pool.connection() as conn:
                row = conn.execute("SELECT clock_timestamp() AS now").fetchone()
        except psycopg.Error:
            self._read_again_at = time.monotonic() + TRY_AGAIN_AFTER_S
            return
        assert row is not None
        at = time.monotonic()
        self._read, self._read_again_at = (row["now"].astimezone(UTC), at), at + READ_EVERY_S
        self._say_if_ours_is_wrong(row["now"])

    def _say_if_ours_is_wrong(self, moment: datetime) -> None:
        ahead = datetime.now(UTC) - moment
        is_wrong = abs(ahead) > WORTH_SAYING
        if is_wrong and not self._has_said:
            log.warning(
                "clock.differs",
                ahead_of_the_database_s=round(ahead.total_seconds(), 1),
                hint="let both machines synchronize their clocks (NTP); until then the database's time is used",
            )
        self._has_said = is_wrong
