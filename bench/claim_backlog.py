"""How long a claim takes behind another queue's backlog, beside a mere fetch by Procrastinate's own function.

    .venv/bin/python -m bench.claim_backlog [--backlog 100000] [--fetches 200]

Starts a Postgres of its own in a temporary folder. Rounds of the two alternate, in one run.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from bench.command import CommandLine
from cli.embedded import EmbeddedPostgres
from storage.postgres.database import Connection, Row, connect
from storage.postgres.migrate import upgrade
from storage.predictions.claim import CLAIM, LEASE
from storage.predictions.submit import Submission, submit
from storage.settings import Settings
from storage.workers.registry import register_bell_worker

QUEUE = "draw-a.b"
ROUNDS = 3


def fill(conn: Connection, backlog: int) -> None:
    """Bells of another model, older than all that follows."""
    conn.execute(
        """
        INSERT INTO procrastinate_jobs (queue_name, task_name)
        SELECT 'draw-other.model', 'x' FROM generate_series(1, %s)
        """,
        (backlog,),
    )
    conn.execute("ANALYZE procrastinate_jobs")


def ours(conn: Connection, worker: int) -> Row | None:
    values = {"queue_name": QUEUE, "bell_worker_id": worker, "worker_id": uuid4(), "claim_id": uuid4(), "lease": LEASE}
    return conn.execute(CLAIM, values | {"holds_others": False, "writes_start": False}).fetchone()


def procrastinates(conn: Connection, worker: int) -> Row | None:
    return conn.execute("SELECT * FROM procrastinate_fetch_job_v2(%s::varchar[], %s)", ([QUEUE], worker)).fetchone()


def times_ms(conn: Connection, fetch: Callable[[Connection, int], Row | None], fetches: int) -> list[float]:
    worker = register_bell_worker(conn)
    for _ in range(fetches):
        submit(conn, Submission("a/b", "1", QUEUE, {}, {}, deadline_s=3600))
    times = []
    for _ in range(fetches):
        began = time.perf_counter()
        fetched = fetch(conn, worker)
        times.append(1000 * (time.perf_counter() - began))
        assert fetched is not None
        assert fetched["id"] is not None
    return times


def main() -> None:
    options = CommandLine(__doc__, writes=False)
    options.size("--backlog", 100_000, quick=500)
    options.size("--fetches", 200, quick=5)
    asked = options.read()
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as folder:
        Path(folder).chmod(0o755)
        postgres = EmbeddedPostgres(Path(folder) / "postgres")
        postgres.start()
        try:
            settings = Settings(database_url=postgres.url)
            upgrade(settings)
            with connect(postgres.url, application_name="bench") as conn:
                conn.execute("SET synchronous_commit = off")  # the disk is the same for both, and noisy
                fill(conn, asked.backlog)
                for _ in range(ROUNDS):
                    mine, theirs = times_ms(conn, ours, asked.fetches), times_ms(conn, procrastinates, asked.fetches)
                    # The smallest time is the one that a busy machine disturbed least.
                    print(
                        f"a claim behind {asked.backlog} bells of another queue, min and median: "
                        f"{min(mine):.2f} {statistics.median(mine):.2f} ms, procrastinate_fetch_job_v2 "
                        f"{min(theirs):.2f} {statistics.median(theirs):.2f} ms: "
                        f"{min(theirs) / min(mine):.0f} x {statistics.median(theirs) / statistics.median(mine):.1f} x"
                    )
        finally:
            postgres.stop()


if __name__ == "__main__":
    main()
