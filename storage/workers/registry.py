"""The `workers` table: who draws here, what, and since when nothing was heard of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from uuid import UUID

from storage.postgres.database import Connection, Row
from storage.postgres.notify import HERE, IDLE_CHANNEL, WORKERS_CHANNEL

WorkerState = Literal["loading", "idle", "drawing", "draining", "failed", "standby"]


@dataclass(frozen=True)
class WorkerRow:
    """What a worker says of itself."""

    id: UUID
    hostname: str
    pid: int
    model: str
    state: WorkerState
    device: str | None = None
    error: str | None = None


@dataclass(frozen=True)
class WorkerLoad:
    """What it does and takes at this moment. None: not known."""

    images: int | None = None  # that it draws together
    memory_bytes: int | None = None  # of its process, without the device's
    device_free_bytes: int | None = None


NOT_KNOWN = WorkerLoad()


@dataclass(frozen=True)
class Sign:
    """A worker's last sign of life."""

    worker_id: UUID
    state: WorkerState
    seen_at: datetime


def say_alive(conn: Connection, row: WorkerRow, load: WorkerLoad = NOT_KNOWN) -> None:
    """Write the worker's row, or refresh it.

    Those who wait for its model are told when it begins or ends to load or to stand by. Hosts are also told when it has
    drawn everything.
    """
    conn.execute(
        f"""
        WITH before AS (
            SELECT state FROM workers WHERE id = %(id)s
        ), written AS (
            INSERT INTO workers (
                id, hostname, pid, model, device, state, error, images, memory_bytes, device_free_bytes
            ) VALUES (
                %(id)s, %(hostname)s, %(pid)s, %(model)s, %(device)s, %(state)s, %(error)s,
                %(images)s, %(memory_bytes)s, %(device_free_bytes)s
            )
            ON CONFLICT (id) DO UPDATE
            SET device = excluded.device, state = excluded.state, error = excluded.error, images = excluded.images,
                memory_bytes = excluded.memory_bytes, device_free_bytes = excluded.device_free_bytes,
                seen_at = clock_timestamp()
        )
        SELECT pg_notify(channel || {HERE}, json_build_object('model', %(model)s::text, 'state', %(state)s::text)::text)
        FROM (
            SELECT CASE
                WHEN (SELECT state FROM before) = %(state)s THEN NULL
                WHEN (SELECT state FROM before) IN ('loading', 'standby') OR %(state)s IN ('loading', 'standby')
                    THEN %(workers_channel)s
                WHEN %(state)s = 'idle' THEN %(idle_channel)s
            END AS channel
        ) AS told
        WHERE channel IS NOT NULL
        """,  # noqa: S608 (a constant)
        {
            "workers_channel": WORKERS_CHANNEL,
            "idle_channel": IDLE_CHANNEL,
            "id": row.id,
            "hostname": row.hostname,
            "pid": row.pid,
            "model": row.model,
            "device": row.device,
            "state": row.state,
            "error": row.error,
            "images": load.images,
            "memory_bytes": load.memory_bytes,
            "device_free_bytes": load.device_free_bytes,
        },
    )


def say_goodbye(conn: Connection, worker_id: UUID) -> None:
    """Take the worker's row out."""
    conn.execute("DELETE FROM workers WHERE id = %s", (worker_id,))


def forget_failures(conn: Connection, model: str, *, before: UUID) -> None:
    """That workers of this model could not start is old news once this one is ready, or knows a later reason.

    If two fail at the same time, one row stays: no process removes a row that was written later than its own.
    """
    conn.execute(
        """
        DELETE FROM workers AS failed USING workers AS mine
        WHERE mine.id = %s AND failed.model = %s AND failed.state = 'failed' AND failed.seen_at < mine.seen_at
        """,
        (before, model),
    )


def list_workers(conn: Connection, *, hostname: str | None = None) -> list[Row]:
    """The workers that are signed in, by model; `seen_s` is the time since each one's last sign of life.

    One that died stands here for a minute more, with a growing `seen_s`; one that could not start for ten, or until
    another one could.
    """
    return conn.execute(
        """
        SELECT id, hostname, pid, model, device, state, error, started_at, images, memory_bytes, device_free_bytes,
               extract(epoch FROM clock_timestamp() - seen_at)::float AS seen_s
        FROM workers
        WHERE %(hostname)s::text IS NULL OR hostname = %(hostname)s
        ORDER BY model, started_at
        """,
        {"hostname": hostname},
    ).fetchall()


def count_workers(conn: Connection, model: str) -> dict[str, int]:
    """How many workers of a model are `ready` to draw, and how many are `loading`."""
    row = conn.execute(
        """
        SELECT count(*) FILTER (WHERE state IN ('idle', 'drawing')) AS ready,
               count(*) FILTER (WHERE state = 'loading') AS loading
        FROM workers WHERE model = %s
        """,
        (model,),
    ).fetchone()
    assert row is not None
    return {"ready": row["ready"], "loading": row["loading"]}


def read_signs(conn: Connection, hostname: str) -> dict[int, Sign]:
    """The last sign of life of each worker of a machine, by its pid.

    A row is written first, as the workers themselves do: where Postgres has no space left, this raises as it does for
    them, so they don't count as silent. A row that somebody has locked (a worker that froze in mid-write) is skipped.
    """
    conn.execute(
        """
        UPDATE workers SET seen_at = seen_at
        WHERE id = (SELECT id FROM workers WHERE hostname = %s LIMIT 1 FOR UPDATE SKIP LOCKED)
        """,
        (hostname,),
    )
    rows = conn.execute(
        "SELECT pid, id, state, seen_at FROM workers WHERE hostname = %s ORDER BY started_at", (hostname,)
    ).fetchall()
    return {row["pid"]: Sign(row["id"], row["state"], row["seen_at"]) for row in rows}


def read_states(conn: Connection, hostname: str) -> dict[int, WorkerState]:
    """The worker processes of a machine that have signed in, by pid."""
    rows = conn.execute("SELECT pid, state FROM workers WHERE hostname = %s", (hostname,))
    return {row["pid"]: row["state"] for row in rows}


def register_bell_worker(conn: Connection) -> int:
    """A row in Procrastinate's own table of workers, so that its tools see who holds which job."""
    row = conn.execute("SELECT worker_id FROM procrastinate_register_worker_v1()").fetchone()
    assert row is not None
    worker_id: int = row["worker_id"]
    return worker_id


def beat(conn: Connection, bell_worker_id: int) -> None:
    """Procrastinate prunes workers whose heart has not beaten for 30 s."""
    conn.execute("SELECT procrastinate_update_heartbeat_v1(%s)", (bell_worker_id,))


def unregister_bell_worker(conn: Connection, bell_worker_id: int) -> None:
    conn.execute("SELECT procrastinate_unregister_worker_v1(%s)", (bell_worker_id,))
