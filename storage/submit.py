"""Transaction 1: the prediction and its bell, both or neither."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from psycopg.types.json import Jsonb
from ulid import ULID

from storage.database import Connection, Row
from storage.queue import TASK_DRAW


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
    priority: int = 0
    cache_key: str | None = None  # None: neither answered from the cache of results, nor kept for it
    id: str = field(default_factory=lambda: str(ULID()).lower())


# One statement is one transaction and one round trip. Procrastinate's function inserts the job and notifies.
SUBMIT = """
WITH bell AS (
    SELECT (procrastinate_defer_jobs_v1(ARRAY[ROW(
        %(queue_name)s, %(task)s, %(priority)s, NULL, NULL, jsonb_build_object('prediction_id', %(id)s::text), NULL
    )::procrastinate_job_to_defer_v1]))[1] AS id
)
INSERT INTO predictions (
    id, status, model, version, queue_name, queue_job_id, priority, input, parameters, logs,
    webhook, webhook_events, cache_key, deadline_at
)
SELECT
    %(id)s, 'starting', %(model)s, %(version)s, %(queue_name)s, bell.id, %(priority)s, %(input)s, %(parameters)s,
    %(logs)s, %(webhook)s, %(webhook_events)s, %(cache_key)s,
    clock_timestamp() + make_interval(secs => %(deadline_s)s)
FROM bell
RETURNING *
"""


def submit(conn: Connection, submission: Submission) -> Row:
    """Write the prediction and ring its bell; when this returns, the prediction can't be lost."""
    row = conn.execute(
        SUBMIT,
        {
            "id": submission.id,
            "task": TASK_DRAW,
            "model": submission.model,
            "version": submission.version,
            "queue_name": submission.queue_name,
            "priority": submission.priority,
            "input": Jsonb(submission.input),
            "parameters": Jsonb(submission.parameters),
            "logs": submission.logs,
            "webhook": submission.webhook,
            "webhook_events": list(submission.webhook_events),
            "cache_key": submission.cache_key,
            "deadline_s": submission.deadline_s,
        },
    ).fetchone()
    assert row is not None
    return row
