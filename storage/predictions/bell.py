"""The bell of a prediction: the Procrastinate job that wakes a worker. The row is the truth, this only rings.

The submit function inserts it, and a trigger of Procrastinate sends NOTIFY for each row that is inserted. The claim
function fetches it.

Lock order: only a claim locks the bell first and then the prediction. Everybody here holds the lock of the
prediction and touches its bell with SKIP LOCKED, so no two can wait for each other.
"""

from __future__ import annotations

from psycopg.types.json import Jsonb

from storage.postgres.database import Connection, Row
from storage.postgres.procrastinate import TASK_DRAW, channel_of


def ring_again(conn: Connection, prediction: Row) -> None:
    """Make the bell of a `starting` prediction ring; the caller's transaction holds the prediction's lock.

    The same job is set back to `todo`, so the prediction keeps its place before the backlog. A new job is
    inserted only where none exists. Procrastinate notifies on INSERT alone, so this notifies by itself.
    """
    job_id = prediction["queue_job_id"]
    if _exists(conn, job_id):
        conn.execute(
            """
            UPDATE procrastinate_jobs
            SET status = 'todo', worker_id = NULL, abort_requested = false, scheduled_at = NULL
            WHERE id = (SELECT id FROM procrastinate_jobs WHERE id = %s AND status <> 'todo'
                        FOR UPDATE SKIP LOCKED)
            """,
            (job_id,),
        )
    else:
        job_id = _insert(conn, prediction)
    conn.execute(
        "SELECT pg_notify(%s, json_build_object('type', 'job_inserted', 'job_id', %s::bigint)::text)",
        (channel_of(prediction["queue_name"]), job_id),
    )


def remove(conn: Connection, prediction: Row) -> None:
    """Delete the bell of a prediction that is over. One that somebody is fetching is deleted by that fetch."""
    conn.execute(
        """
        DELETE FROM procrastinate_jobs
        WHERE id = (SELECT id FROM procrastinate_jobs WHERE id = %s FOR UPDATE SKIP LOCKED)
        """,
        (prediction["queue_job_id"],),
    )


def _exists(conn: Connection, job_id: int | None) -> bool:
    return conn.execute("SELECT 1 FROM procrastinate_jobs WHERE id = %s", (job_id,)).fetchone() is not None


def _insert(conn: Connection, prediction: Row) -> int:
    row = conn.execute(
        """
        WITH bell AS (
            INSERT INTO procrastinate_jobs (queue_name, task_name, priority, start_tag, args)
            VALUES (%(queue_name)s, %(task)s, %(priority)s, %(start_tag)s, %(args)s)
            RETURNING id
        )
        UPDATE predictions SET queue_job_id = bell.id FROM bell WHERE predictions.id = %(id)s
        RETURNING queue_job_id
        """,
        {
            "queue_name": prediction["queue_name"],
            "task": TASK_DRAW,
            "priority": prediction["priority"],
            "start_tag": prediction["start_tag"],
            "args": Jsonb({"prediction_id": prediction["id"]}),
            "id": prediction["id"],
        },
    ).fetchone()
    assert row is not None
    job_id: int = row["queue_job_id"]
    return job_id
