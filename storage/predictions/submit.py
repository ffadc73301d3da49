"""Transaction 1: the prediction and its bell, both or neither."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb
from ulid import ULID

from storage.postgres.database import Connection, Row
from storage.postgres.procrastinate import TASK_DRAW
from storage.predictions import bell, quota
from storage.predictions.quota import NO_LIMITS, Quota
from storage.predictions.render import Renderer
from storage.predictions.repeats import idempotency, result_cache
from storage.predictions.states import PredictionStatus
from storage.webhooks.events import wants, write_event


@dataclass(frozen=True)
class InputImage:
    """A stored picture that a request starts from."""

    object_key: str
    sent_as: str | None = None  # its description, if the request carried it or named one that an earlier one carried


@dataclass(frozen=True)
class Submission:
    """A request that has been validated."""

    model: str
    version: str
    queue_name: str
    input: dict[str, Any]
    parameters: dict[str, Any]
    deadline_s: float
    webhook: str | None = None
    webhook_events: tuple[str, ...] = ()
    logs: str = ""
    priority: int = 0  # what is higher is drawn first
    is_fair: bool = True  # within a priority, tokens take turns; False: the oldest is drawn first
    token_id: int | None = None
    quota: Quota = NO_LIMITS
    idempotency_key: str | None = None
    request_hash: str | None = None
    traceparent: str | None = None  # of the span that submits it; None: not traced
    keep: bool = False  # retention spares it
    metadata: dict[str, Any] = field(default_factory=dict)  # the client's own, flat
    cache_key: str | None = None  # None: neither answered from the cache of results, nor kept for it
    input_images: Mapping[str, InputImage] = field(default_factory=dict)  # by their names: image, image_2, mask
    id: str = field(default_factory=lambda: str(ULID()).lower())


# One statement is one transaction and one round trip. What it does is in a function, which Postgres plans once for each
# connection, also behind a pooler: migrations/versions/0027_short_submit_and_claim.py.
SUBMIT = """
SELECT queue_job_id, start_tag, created_at, deadline_at, drawn_before
FROM darkroom_submit_v4(
    id => %(id)s, model => %(model)s, version => %(version)s, queue_name => %(queue_name)s, task => %(task)s,
    priority => %(priority)s, input => %(input)s, parameters => %(parameters)s, logs => %(logs)s,
    deadline_s => %(deadline_s)s, webhook => %(webhook)s, webhook_events => %(webhook_events)s,
    token_id => %(token_id)s, idempotency_key => %(idempotency_key)s, request_hash => %(request_hash)s,
    bucket => %(bucket)s, rate => %(rate)s, max_queued => %(max_queued)s,
    cache_key => %(cache_key)s, cached_as => %(cached_as)s, any_seed => %(any_seed)s, seed => %(seed)s,
    fair => %(fair)s, keep => %(keep)s, metadata => %(metadata)s
)
"""


def submit(conn: Connection, submission: Submission, renderer: Renderer | None = None) -> Row:
    """Write the prediction and ring its bell; when this returns, the prediction can't be lost.

    `renderer` renders the webhook event `queued`, which is written in the same transaction if the receiver wants it.

    The row of a new prediction also says whether it was `drawn_before`. Then no bell rings: call `reuse_result`, and
    `ring` where that finds nothing any more. (Otherwise rescue rings.)

    Where its Idempotency-Key was used before for the same request, that prediction is returned as it is now; its id
    is not the submission's. Raises KeyReused, QuotaExceeded, and ForeignKeyViolation where one of `input_images` has
    just been removed. To be called outside of a transaction: the statement that finds the key taken is rolled back, its
    bell with it.
    """
    while True:
        try:
            row = (
                _insert_with_more(conn, submission, renderer)
                if submission.traceparent is not None or submission.input_images or _wants_event(submission)
                else _insert(conn, submission)
            )
            was_refused = row is None
        except UniqueViolation as error:
            if not idempotency.is_about_key(error):
                raise
            row, was_refused = None, False
        if row is None and submission.idempotency_key is not None:
            row = idempotency.read_by_key(
                conn, submission.token_id, submission.idempotency_key, submission.request_hash
            )
        if row is not None:
            return row
        if was_refused:
            raise quota.explain(conn, submission.quota, submission.token_id)
        # The key was taken, and retention has removed its prediction's data since: now the key is free.


def ring(conn: Connection, prediction_id: str) -> None:
    """Ring the bell of a prediction that has none, if it still waits."""
    with conn.transaction():
        prediction = conn.execute(
            "SELECT * FROM predictions WHERE id = %s AND status = 'starting' FOR UPDATE", (prediction_id,)
        ).fetchone()
        if prediction is not None:
            bell.ring_again(conn, prediction)


def _insert_with_more(conn: Connection, submission: Submission, renderer: Renderer | None) -> Row | None:
    """As `_insert`, with the event `queued`, the trace, and what it refers to: round trips that others don't pay.

    Raises ForeignKeyViolation where an object of `input_images` has no row any more.
    """
    with conn.transaction():
        row = _insert(conn, submission)
        if row is None:
            return None
        if submission.traceparent is not None:
            conn.execute(
                "UPDATE predictions SET traceparent = %s WHERE id = %s", (submission.traceparent, submission.id)
            )
        for name, image in submission.input_images.items():
            conn.execute(
                "INSERT INTO input_images (prediction_id, name, object_key, sent_as) VALUES (%s, %s, %s, %s)",
                (submission.id, name, image.object_key, image.sent_as),
            )
        if _wants_event(submission):
            assert renderer is not None
            write_event(conn, renderer, row, "queued")
        return row


def _wants_event(submission: Submission) -> bool:
    return wants(submission.webhook, submission.webhook_events, "queued")


def _insert(conn: Connection, submission: Submission) -> Row | None:
    """The new row, or None where a limit was reached. Raises UniqueViolation where the key is taken."""
    values: dict[str, Any] = {
        "id": submission.id,
        "task": TASK_DRAW,
        "model": submission.model,
        "version": submission.version,
        "queue_name": submission.queue_name,
        "priority": submission.priority,
        "fair": submission.is_fair,
        "input": Jsonb(submission.input),
        "parameters": Jsonb(submission.parameters),
        "logs": submission.logs,
        "webhook": submission.webhook,
        "webhook_events": list(submission.webhook_events),
        "token_id": submission.token_id,
        "idempotency_key": submission.idempotency_key,
        "request_hash": submission.request_hash,
        "cache_key": submission.cache_key,
        "deadline_s": submission.deadline_s,
        "keep": submission.keep,
        "metadata": Jsonb(submission.metadata),
    }
    values |= result_cache.wanted(submission.cache_key, submission.token_id, submission.input, submission.parameters)
    values |= submission.quota.parameters(submission.token_id)
    found = conn.execute(SUBMIT, values, prepare=True).fetchone()
    return None if found is None else _row_of(submission) | found


def _row_of(submission: Submission) -> Row:
    """The row of `predictions` as it was inserted, but for what Postgres has added."""
    return {
        "id": submission.id,
        "status": PredictionStatus.STARTING.value,
        "model": submission.model,
        "version": submission.version,
        "queue_name": submission.queue_name,
        "priority": submission.priority,
        "source": "api",
        "input": submission.input,
        "parameters": submission.parameters,
        "logs": submission.logs,
        "error": None,
        "metrics": {},
        "data_removed": False,
        "keep": submission.keep,
        "metadata": submission.metadata,
        "deleted_at": None,
        "cache_key": submission.cache_key,
        "webhook": submission.webhook,
        "webhook_events": list(submission.webhook_events),
        "token_id": submission.token_id,
        "idempotency_key": submission.idempotency_key,
        "traceparent": submission.traceparent,
        "request_hash": submission.request_hash,
        "started_at": None,
        "completed_at": None,
        "attempt": 0,
        "crashes": 0,
        "claim_id": None,
        "worker_id": None,
        "lease_expires_at": None,
    }
