"""Failed tries to load a model, and when predictions that wait for that model fail because of them.

A row is one try: one process of a worker. Rows are counted for each prediction from its creation on, so what is asked
for later gets tries of its own, and a model that was mended is noticed by itself. All rows of a model go as soon as a
worker has loaded it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from storage.postgres.database import Connection

DIED = "the worker's process ended while it loaded the model, for example because the machine ran out of memory"
# Longer than a prediction waits: its deadline is after 24 h unless PREDICTION_DEADLINE_S says otherwise.
OLD_AFTER = timedelta(days=7)


@dataclass(frozen=True)
class LoadPatience:
    """A prediction fails after so many failed tries, or so long after the first of them, whichever is first."""

    tries: int = 3
    timeout: timedelta = timedelta(minutes=10)


def record_failure(conn: Connection, model: str, worker_id: UUID, reason: str) -> None:
    """A worker could not load its model. `reason` is for clients: no paths of the server."""
    conn.execute(
        "INSERT INTO load_failures (worker_id, model, reason) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING",
        (worker_id, model, reason),
    )


def forget_failures_to_load(conn: Connection, model: str) -> None:
    """A worker has loaded it."""
    conn.execute("DELETE FROM load_failures WHERE model = %s", (model,))


def forget_old_failures(conn: Connection) -> int:
    """Failures that no longer count."""
    return conn.execute("DELETE FROM load_failures WHERE failed_at < clock_timestamp() - %s", (OLD_AFTER,)).rowcount


# Models for which the patience of somebody who waits may be over. That is no more than a few rows to look at, also
# where a hundred thousand predictions wait.
UNLOADABLE_MODELS = """
SELECT model FROM load_failures AS failure
WHERE NOT EXISTS (
    SELECT FROM workers
    WHERE workers.model = failure.model AND workers.state IN ('idle', 'drawing', 'standby')
      AND workers.seen_at > clock_timestamp() - %(gone_after)s
)
GROUP BY model
HAVING count(*) >= %(tries)s OR min(failed_at) < clock_timestamp() - %(timeout)s
"""

# A try that is under way may still succeed after the timeout (a long download); not so after the last try.
WAITS_IN_VAIN = """
status = 'starting' AND model = ANY(%(models)s) AND (
    SELECT count(*) >= %(tries)s
           OR min(failed_at) < clock_timestamp() - %(timeout)s AND NOT EXISTS (
               SELECT FROM workers
               WHERE workers.model = predictions.model AND workers.state = 'loading'
                 AND workers.seen_at > clock_timestamp() - %(gone_after)s
           )
    FROM load_failures WHERE load_failures.model = predictions.model AND failed_at > predictions.created_at
)
"""


def unloadable_models(conn: Connection, patience: LoadPatience, *, gone_after: timedelta) -> list[str]:
    """The models that no worker serves and whose loading failed too often, or too long ago, for some prediction."""
    return [row["model"] for row in conn.execute(UNLOADABLE_MODELS, parameters_of(patience, gone_after=gone_after))]


def parameters_of(patience: LoadPatience, *, gone_after: timedelta) -> dict[str, object]:
    """What the statements above take, `models` left out."""
    return {"tries": patience.tries, "timeout": patience.timeout, "gone_after": gone_after}


def explain_failures(conn: Connection, prediction_id: str) -> str:
    """Why a prediction fails whose model can't be loaded, for its client."""
    row = conn.execute(
        """
        SELECT count(*) AS n, (array_agg(reason ORDER BY failed_at DESC))[1] AS reason
        FROM predictions JOIN load_failures USING (model)
        WHERE predictions.id = %s AND failed_at > created_at
        """,
        (prediction_id,),
    ).fetchone()
    assert row is not None
    return f"The model could not be loaded (failed tries: {row['n']}). The last one: {row['reason']}"
