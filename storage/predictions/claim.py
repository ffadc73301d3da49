"""Transaction 2: a worker takes a prediction, keeps it with a lease, or hands it back.

The fence of every later write of a run is `id`, `claim_id` and `status = 'processing'`. No row matched means that
the claim was lost: its worker drops the work and touches nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from storage import crash_points
from storage.postgres.database import Connection, Row
from storage.postgres.notify import notify
from storage.predictions import bell, object_keys
from storage.predictions.finish import Failed, finish
from storage.predictions.render import Renderer
from storage.predictions.states import MAX_ATTEMPTS
from storage.webhooks.events import write_event

# A worker that is gone is noticed after this long; four renewals fit in.
LEASE = timedelta(seconds=6)
RENEW_EVERY_S = 1.5


@dataclass(frozen=True)
class Claim:
    """One prediction in one worker's hands."""

    prediction: Row
    claim_id: UUID
    may_be_drawn_before: bool = True  # False: no equal prediction has succeeded before

    @property
    def prediction_id(self) -> str:
        prediction_id: str = self.prediction["id"]
        return prediction_id

    @property
    def attempt(self) -> int:
        attempt: int = self.prediction["attempt"]
        return attempt

    @property
    def must_be_alone(self) -> bool:
        """It has killed a worker before: nothing else may be drawn beside it."""
        return bool(self.prediction["crashes"] > 0)

    def key_of(self, s3_prefix: str, index: int, extension: str) -> str:
        """Where image `index` is stored: a key that no other claim uses."""
        return object_keys.key_of(s3_prefix, self.prediction_id, self.attempt, self.claim_id, index, extension)


# What it does is in a function: migrations/versions/0027_short_submit_and_claim.py.
CLAIM = """
SELECT (prediction).*, outcome, may_be_drawn_before
FROM darkroom_claim_v1(
    queue_name => %(queue_name)s, bell_worker_id => %(bell_worker_id)s, worker_id => %(worker_id)s,
    claim_id => %(claim_id)s, lease => %(lease)s, holds_others => %(holds_others)s, writes_start => %(writes_start)s
)
"""


class NeedsEmptyWorker(Exception):
    """The next prediction must be drawn alone, and the worker holds others; it stays in the queue."""


def claim(
    conn: Connection,
    renderer: Renderer,
    *,
    queue_name: str,
    worker_id: UUID,
    bell_worker_id: int,
    holds_others: bool,
    claim_id: UUID | None = None,
) -> Claim | None:
    """Take the next prediction of a queue, or None where there is none.

    With a `claim_id` of the caller's own, `find_claim` finds the claim if the answer to the COMMIT gets lost.

    One round trip, unless a webhook wants `start`: that event is written in the same transaction.

    Raises NeedsEmptyWorker, and psycopg.errors.ForeignKeyViolation where `bell_worker_id` was pruned.
    """
    values = {
        "queue_name": queue_name,
        "bell_worker_id": bell_worker_id,
        "worker_id": worker_id,
        "claim_id": claim_id or uuid4(),
        "lease": LEASE,
        "holds_others": holds_others,
    }
    writes_start = False
    while True:
        claimed = _claim_and_write_start(conn, renderer, values) if writes_start else _claim(conn, values)
        if claimed is None:
            return None
        match claimed.pop("outcome"):
            case "claimed":
                crash_points.reach("after-claim")
                may_be_drawn_before = claimed.pop("may_be_drawn_before")
                return Claim(prediction=claimed, claim_id=claimed["claim_id"], may_be_drawn_before=may_be_drawn_before)
            case "needs an empty worker":
                raise NeedsEmptyWorker
            case "starts":
                writes_start = True
            case _:  # there were so many stale bells that it gave up; they are deleted now
                pass


def _claim(conn: Connection, values: dict[str, Any], *, writes_start: bool = False) -> Row | None:
    return conn.execute(CLAIM, values | {"writes_start": writes_start}).fetchone()


def _claim_and_write_start(conn: Connection, renderer: Renderer, values: dict[str, Any]) -> Row | None:
    with conn.transaction():
        claimed = _claim(conn, values, writes_start=True)
        if claimed is not None and claimed["outcome"] == "claimed" and claimed["attempt"] == 1:
            write_event(conn, renderer, claimed, "start")
        return claimed


def find_claim(conn: Connection, claim_id: UUID) -> Claim | None:
    """The claim if it was committed and is still held, with a new lease."""
    prediction = conn.execute(
        """
        UPDATE predictions SET lease_expires_at = clock_timestamp() + %(lease)s
        WHERE claim_id = %(claim_id)s AND status = 'processing'
        RETURNING *
        """,
        {"lease": LEASE, "claim_id": claim_id},
    ).fetchone()
    return None if prediction is None else Claim(prediction=prediction, claim_id=claim_id)


def renew(conn: Connection, claims: Iterable[tuple[str, UUID]]) -> set[UUID]:
    """Extend the leases of exactly these claims; returns the claim ids that are still held.

    It names the claims that are in memory, never "all of this worker": a claim whose COMMIT was answered into a
    dead connection would live for ever.
    """
    named = list(claims)
    if not named:
        return set()
    rows = conn.execute(
        """
        UPDATE predictions AS p
        SET lease_expires_at = clock_timestamp() + %(lease)s
        FROM unnest(%(ids)s::text[], %(claim_ids)s::uuid[]) AS held (id, claim_id)
        WHERE p.id = held.id AND p.claim_id = held.claim_id AND p.status = 'processing'
        RETURNING p.claim_id
        """,
        {"lease": LEASE, "ids": [id_ for id_, _ in named], "claim_ids": [claim_id for _, claim_id in named]},
    ).fetchall()
    return {row["claim_id"] for row in rows}


def hand_back(conn: Connection, renderer: Renderer, prediction_id: str, claim_id: UUID) -> bool:
    """Give a prediction back before it is drawn, for another worker; no crash is counted.

    False where the claim had been lost already. One that was claimed MAX_ATTEMPTS times fails instead.
    """
    with conn.transaction():
        prediction = release(conn, prediction_id, claim_id, crashes=0)
        if prediction is None:
            return False
        give_up_or_ring(conn, renderer, prediction)
        return True


def release(conn: Connection, prediction_id: str, claim_id: UUID, *, crashes: int) -> Row | None:
    """processing → starting, under the fence; the caller's transaction rings the bell or fails it."""
    return conn.execute(
        """
        UPDATE predictions
        SET status = 'starting', claim_id = NULL, worker_id = NULL, lease_expires_at = NULL,
            crashes = crashes + %(crashes)s
        WHERE id = %(id)s AND claim_id = %(claim_id)s AND status = 'processing'
        RETURNING *
        """,
        {"id": prediction_id, "claim_id": claim_id, "crashes": crashes},
    ).fetchone()


def give_up_or_ring(conn: Connection, renderer: Renderer, prediction: Row, *, reason: str | None = None) -> None:
    """What follows a release: fail for `reason` or for too many attempts, else wait for the next worker."""
    if reason is None and prediction["attempt"] >= MAX_ATTEMPTS:
        reason = f"It was claimed {MAX_ATTEMPTS} times and never drawn to its end."
    if reason is not None:
        finish(conn, renderer, prediction["id"], Failed(reason))
        return
    bell.ring_again(conn, prediction)
    notify(conn, prediction)
