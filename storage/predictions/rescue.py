"""What the courier does every second so that nothing waits for somebody who is gone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import psycopg
import structlog

from storage.postgres.database import Connection, Row
from storage.postgres.notify import HERE, RESCUE_CHANNEL
from storage.postgres.procrastinate import TASK_DRAW
from storage.predictions import bell
from storage.predictions.claim import give_up_or_ring, release
from storage.predictions.finish import Canceled, Failed, finish
from storage.predictions.render import Renderer
from storage.predictions.states import MAX_CRASHES
from storage.workers.load_failures import (
    DIED,
    WAITS_IN_VAIN,
    LoadPatience,
    explain_failures,
    forget_old_failures,
    parameters_of,
    unloadable_models,
)

log = structlog.get_logger(__name__)

# Healthy workers must have the time to renew their leases after Postgres was away.
GRACE_AFTER_POSTGRES_STARTED = timedelta(seconds=10)
# A worker renews its row with its leases, every 1.5 s.
WORKER_GONE_AFTER = timedelta(seconds=60)
# One that could not start is kept for people to see, and so that clients that wait get no estimate.
FAILURE_IS_OLD_AFTER = timedelta(minutes=10)
# A healthy worker's lease never has so little left. Rescue looks every second, so it sees each lease in this state.
RENEWAL_IS_OVERDUE = timedelta(seconds=1.5)
# One call moves so many of a kind, so that it stays short; what is left over is done a second later.
BATCH = 100


@dataclass(frozen=True)
class RescueReport:
    """How many predictions were moved, by reason."""

    expired_leases: int = 0
    passed_deadlines: int = 0
    lost_bells: int = 0
    leftover_bells: int = 0
    gone_workers: int = 0
    unloadable: int = 0  # predictions that failed because their model can't be loaded
    broken: int = 0
    out_of_space: bool = False  # Postgres could not write: neither could healthy workers renew their leases

    def __bool__(self) -> bool:
        return any(vars(self).values())


def rescue_once(
    conn: Connection,
    renderer: Renderer,
    *,
    expire: bool,
    check_bells: bool = True,
    patience: LoadPatience = LoadPatience(),  # noqa: B008 (frozen)
) -> RescueReport:
    """Take back expired leases, end what passed its deadline or waits for a model that can't be loaded, ring lost bells
    again, forget dead workers.

    `expire=False` leaves leases alone (after a reconnect), but for those whose process is known to be dead. Nor does a
    prediction fail then because of its model: healthy workers could not say that they are there.
    `check_bells` reads the whole backlog, so it needs no asking every second. Any number may run at once: each
    prediction is locked, and one that somebody else has locked is skipped. One that can't be moved is logged and
    counted as `broken`, and the others are moved, however many can't be. Raises psycopg.Error where the connection
    was lost.
    """
    turn = _Turn(conn)
    turn.attempt(_touch_lease_about_to_expire)
    if check_bells:
        turn.attempt(forget_old_failures)
    return RescueReport(
        expired_leases=_take_back_expired_leases(turn, renderer, expire=expire and not turn.out_of_space),
        passed_deadlines=_end_passed_deadlines(turn, renderer),
        lost_bells=_ring_lost_bells(turn) if check_bells else 0,
        leftover_bells=turn.attempt(_sweep_leftover_bells) if check_bells else 0,
        gone_workers=turn.attempt(_forget_gone_workers),
        unloadable=_fail_unloadable(turn, renderer, patience) if expire and not turn.out_of_space else 0,
        broken=turn.broken,
        out_of_space=turn.out_of_space,
    )


class _Turn:
    """One round on one connection, in which an error costs what it struck and nothing else."""

    def __init__(self, conn: Connection) -> None:
        self.conn = conn
        self.broken = 0
        self.out_of_space = False

    def attempt(self, move: Callable[..., int], *prediction_id: str) -> int:
        """What `move(conn, *prediction_id)` returns, or 0 where it raised, which is logged.

        Raises where the connection is gone.
        """
        try:
            with self.conn.transaction():
                return move(self.conn, *prediction_id)
        except Exception as error:
            if self.conn.closed:
                raise
            self.out_of_space |= isinstance(error, psycopg.errors.DiskFull)
            self.broken += 1
            log.exception("rescue.broken", during=move.__name__, prediction_id="".join(prediction_id) or None)
            return 0

    def move_all(
        self,
        condition: str,
        move: Callable[[Connection, str], int],
        *,
        first: Literal["lease_expires_at", "deadline_at"],
        parameters: Mapping[str, object] | None = None,
    ) -> int:
        """Move predictions that fulfil an SQL condition, each in a transaction of its own, until BATCH are moved.

        They are read page by page, in the order of `first`, whose index leads past everything that is over. So those
        which can't be moved don't delay the ones behind them.
        """
        query = f"""
        SELECT id, {first} AS since FROM predictions
        WHERE ({condition}) AND ({first}, id) > (%(since)s::timestamptz, %(id)s)
        ORDER BY {first}, id LIMIT {BATCH}
        """  # noqa: S608 (constants)
        moved = 0
        last: Row = {"since": "-infinity", "id": ""}
        while moved < BATCH and (page := self._read(query, {**(parameters or {}), **last})):
            for row in page:
                moved += self.attempt(move, row["id"])
            last = page[-1]
        return moved

    def _read(self, query: str, parameters: Mapping[str, object]) -> list[Row]:
        """The rows of a query; none where it raised."""
        found: list[Row] = []

        def read_candidates(conn: Connection) -> int:
            found.extend(conn.execute(query, parameters))
            return len(found)

        self.attempt(read_candidates)
        return found


# A process that died while it loaded its model could not say why.
COUNT_AS_FAILED_TRY = """
INSERT INTO load_failures (worker_id, model, reason) SELECT id, model, %(died)s FROM gone WHERE state = 'loading'
ON CONFLICT DO NOTHING
"""


def expire_leases_of_process(conn: Connection, hostname: str, pid: int) -> int:
    """Mark the claims of a process that was seen to die, and wake rescue, which takes them back.

    Returns how many there were. The process's row in `workers` goes with it, unless it says why it could not start.
    """
    with conn.transaction():
        marked = conn.execute(
            """
            UPDATE predictions SET lease_expires_at = 'epoch'
            FROM workers
            WHERE workers.hostname = %s AND workers.pid = %s
              AND predictions.worker_id = workers.id AND predictions.status = 'processing'
            """,
            (hostname, pid),
        ).rowcount
        conn.execute(
            f"""
            WITH gone AS (
                DELETE FROM workers WHERE hostname = %(hostname)s AND pid = %(pid)s AND state <> 'failed'
                RETURNING id, model, state
            ) {COUNT_AS_FAILED_TRY}
            """,  # noqa: S608 (constants)
            {"hostname": hostname, "pid": pid, "died": DIED},
        )
        if marked:
            conn.execute(f"SELECT pg_notify(%s || {HERE}, '')", (RESCUE_CHANNEL,))
        return marked


def _touch_lease_about_to_expire(conn: Connection) -> int:
    """Write to the row of a claim in the last second of its lease, as its worker would, and change nothing.

    Where Postgres is out of space, this is how rescue learns of it before a lease is over that nobody could renew.
    """
    return conn.execute(
        """
        UPDATE predictions SET lease_expires_at = lease_expires_at
        WHERE id = (
            SELECT id FROM predictions
            WHERE status = 'processing' AND lease_expires_at < clock_timestamp() + %s
            ORDER BY lease_expires_at DESC LIMIT 1
            FOR UPDATE SKIP LOCKED
        )
        """,
        (RENEWAL_IS_OVERDUE,),
    ).rowcount


EXPIRED = """
status = 'processing' AND (
    lease_expires_at = 'epoch'
    OR %(expire)s AND lease_expires_at < clock_timestamp()
       AND clock_timestamp() - pg_postmaster_start_time() > %(grace)s
)
"""


def _take_back_expired_leases(turn: _Turn, renderer: Renderer, *, expire: bool) -> int:
    parameters = {"expire": expire, "grace": GRACE_AFTER_POSTGRES_STARTED}

    def take_back(conn: Connection, prediction_id: str) -> int:
        locked = conn.execute(
            f"SELECT id, claim_id FROM predictions WHERE id = %(id)s AND {EXPIRED} FOR UPDATE SKIP LOCKED",  # noqa: S608 (constants)
            parameters | {"id": prediction_id},
        ).fetchone()
        if locked is None:
            return 0
        prediction = release(conn, locked["id"], locked["claim_id"], crashes=1)
        assert prediction is not None, "it is locked and processing"
        give_up_or_ring(conn, renderer, prediction, reason=_reason_to_give_up(prediction["crashes"]))
        return 1

    return turn.move_all(EXPIRED, take_back, first="lease_expires_at", parameters=parameters)


def _reason_to_give_up(crashes: int) -> str | None:
    if crashes < MAX_CRASHES:
        return None
    return f"The worker that drew it died {crashes} times; it is not tried again."


def _end_passed_deadlines(turn: _Turn, renderer: Renderer) -> int:
    outcome = Canceled("Its deadline passed before it was done.")

    def end(conn: Connection, prediction_id: str) -> int:
        return int(finish(conn, renderer, prediction_id, outcome) is not None)

    passed = "status IN ('starting', 'processing') AND deadline_at < clock_timestamp()"
    return turn.move_all(passed, end, first="deadline_at")


WITHOUT_BELL = """
status = 'starting' AND NOT EXISTS (
    SELECT FROM procrastinate_jobs AS job WHERE job.id = predictions.queue_job_id AND job.status = 'todo'
)
"""


def _ring_lost_bells(turn: _Turn) -> int:
    def ring(conn: Connection, prediction_id: str) -> int:
        prediction = conn.execute(
            f"SELECT * FROM predictions WHERE id = %s AND {WITHOUT_BELL} FOR UPDATE SKIP LOCKED",  # noqa: S608 (constants)
            (prediction_id,),
        ).fetchone()
        if prediction is None:
            return 0
        bell.ring_again(conn, prediction)
        return 1

    return turn.move_all(WITHOUT_BELL, ring, first="deadline_at")


def _sweep_leftover_bells(conn: Connection) -> int:
    """Delete the bells of predictions that are over.

    Finish removes the bell with SKIP LOCKED, and a fetch that comes too late for a bell keeps it locked until its
    transaction ends. A bell left in `doing` would count as work for ever, and keep a GPU running.
    """
    return conn.execute(
        f"""
        DELETE FROM procrastinate_jobs WHERE id IN (
            SELECT job.id FROM procrastinate_jobs AS job
            LEFT JOIN predictions ON predictions.id = job.args->>'prediction_id'
            WHERE job.task_name = %s AND job.status <> 'todo'
              AND (predictions.id IS NULL OR predictions.status NOT IN ('starting', 'processing')
                   OR predictions.queue_job_id <> job.id)
            LIMIT {BATCH}
            FOR UPDATE OF job SKIP LOCKED
        )
        """,  # noqa: S608 (constants)
        (TASK_DRAW,),
    ).rowcount


def _forget_gone_workers(conn: Connection) -> int:
    row = conn.execute(
        f"""
        WITH gone AS (
            DELETE FROM workers
            WHERE seen_at < clock_timestamp() - CASE WHEN state = 'failed' THEN %(old)s ELSE %(gone_after)s END
            RETURNING id, model, state
        ), counted AS ({COUNT_AS_FAILED_TRY})
        SELECT count(*) AS n FROM gone
        """,  # noqa: S608 (constants)
        {"old": FAILURE_IS_OLD_AFTER, "gone_after": WORKER_GONE_AFTER, "died": DIED},
    ).fetchone()
    assert row is not None
    n: int = row["n"]
    return n


def _fail_unloadable(turn: _Turn, renderer: Renderer, patience: LoadPatience) -> int:
    """Fail what waits for a model whose workers can't load it, where no other worker serves it."""
    models: list[str] = []

    def look(conn: Connection) -> int:
        models.extend(unloadable_models(conn, patience, gone_after=WORKER_GONE_AFTER))
        return len(models)

    if not turn.attempt(look):
        return 0
    parameters = parameters_of(patience, gone_after=WORKER_GONE_AFTER) | {"models": models}

    def fail(conn: Connection, prediction_id: str) -> int:
        locked = conn.execute(
            f"SELECT id FROM predictions WHERE id = %(id)s AND {WAITS_IN_VAIN} FOR UPDATE SKIP LOCKED",  # noqa: S608 (constants)
            parameters | {"id": prediction_id},
        ).fetchone()
        if locked is None:  # claimed meanwhile
            return 0
        return int(finish(conn, renderer, prediction_id, Failed(explain_failures(conn, prediction_id))) is not None)

    return turn.move_all(WAITS_IN_VAIN, fail, first="deadline_at", parameters=parameters)
