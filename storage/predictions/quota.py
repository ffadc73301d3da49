"""How often a token may submit, and how many of its predictions may wait: rules that the submit function keeps.

A token bucket holds one minute's worth of submits and refills steadily. Its row is also where submits of one token
wait for each other while a limit is set, which makes the count of what waits exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from storage.errors import DarkroomError
from storage.postgres.database import Connection

EVERYBODY = 0  # the bucket of those who have no token
QUEUE_FULL_RETRY_AFTER_S = 5

NO_RATE = 1e9  # submits a minute: a rate that can't be reached, for tokens with only a cap


class QuotaExceeded(DarkroomError):
    """Too many submits, or too many that wait. The message says which limit it was."""

    def __init__(self, message: str, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Quota:
    """The limits of one token, or of everybody where the API is open. 0 is no limit."""

    rate_per_minute: int = 0
    max_queued: int = 0

    @property
    def limits_anything(self) -> bool:
        return self.rate_per_minute > 0 or self.max_queued > 0

    def parameters(self, token_id: int | None) -> dict[str, object]:
        """The values that the submit function takes."""
        return {
            "bucket": EVERYBODY if token_id is None else token_id,
            "rate": float(self.rate_per_minute or NO_RATE) if self.limits_anything else None,
            "max_queued": self.max_queued,
        }


NO_LIMITS = Quota()


def explain(conn: Connection, quota: Quota, token_id: int | None) -> QuotaExceeded:
    """Why the submit was refused just now."""
    left = _left(conn, quota, EVERYBODY if token_id is None else token_id)
    if quota.rate_per_minute and left < 1:
        wait_s = max(1, math.ceil((1 - left) * 60 / quota.rate_per_minute))
        return QuotaExceeded(
            f"At most {quota.rate_per_minute} predictions a minute may be created with this token; "
            f"try again in {wait_s} s.",
            wait_s,
        )
    return QuotaExceeded(
        f"{quota.max_queued} predictions of this token wait already, which is its limit; "
        "try again when some of them have been started.",
        QUEUE_FULL_RETRY_AFTER_S,
    )


def _left(conn: Connection, quota: Quota, bucket: int) -> float:
    row = conn.execute(
        """
        SELECT least(%(rate)s, "left" + extract(epoch FROM clock_timestamp() - refilled_at) * %(rate)s / 60.0) AS left
        FROM rate_buckets WHERE token_id = %(bucket)s
        """,
        {"rate": float(quota.rate_per_minute), "bucket": bucket},
    ).fetchone()
    return float(row["left"]) if row else 0.0
