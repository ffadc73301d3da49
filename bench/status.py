"""How long the statements of `/v1/status` and `/v1/usage` take with a million predictions in the database.

    python -m bench.status [--predictions 1000000] [--rounds 50] [--write]

Starts a Postgres of its own and fills it, which takes a few minutes for a million: 2,000 predictions wait, 4 % failed,
a webhook delivery for every third (1 % of them fail), two days of activity of five models in every minute, a year of
usage of 50 tokens with each model. Times are those on a warm cache, of the statement and its answer.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from api.operator import status as view
from bench.command import CommandLine, publish
from bench.report import machine
from cli.embedded import EmbeddedPostgres
from storage.operator import status
from storage.operator.activity import MINUTE_S, QUARTER_S, WEBHOOKS, read_series
from storage.operator.totals import read_pending_webhooks, read_queues
from storage.operator.usage import read_usage
from storage.postgres.database import Connection, connect
from storage.postgres.migrate import upgrade
from storage.s3.lost_objects import count_missing
from storage.settings import Settings
from storage.workers.registry import list_workers

MODELS, TOKENS = 5, 50
WAITING = 2_000

PREDICTIONS = """
INSERT INTO predictions (
    id, status, model, version, queue_name, input, parameters, error, token_id, created_at, started_at, completed_at,
    deadline_at
)
SELECT '01' || lpad(n::text, 24, '0'),
       CASE WHEN waits THEN 'starting' WHEN failed THEN 'failed' ELSE 'succeeded' END,
       'bench/' || n %% %(models)s, '1', 'draw-bench', '{"prompt": "a red circle"}', '{"num_inference_steps": 8}',
       CASE WHEN failed AND NOT waits THEN 'reason ' || n %% 7 END, n %% %(tokens)s, made_at, made_at,
       CASE WHEN NOT waits THEN made_at + interval '2 s' END, made_at + interval '1 day'
FROM (
    SELECT n, n > %(total)s - %(waiting)s AS waits, n %% 25 = 0 AS failed,
           now() - (%(total)s - n) * interval '0.1 s' AS made_at
    FROM generate_series(1, %(total)s) AS n
) AS made
"""

DELIVERIES = """
INSERT INTO webhook_deliveries (
    id, prediction_id, token_id, event, url, body, status, attempts, last_attempt_at, last_status, last_error
)
SELECT 'msg_' || id, id, token_id, 'completed', 'https://example.com/hook', '{}',
       CASE WHEN fails THEN 'failed' ELSE 'delivered' END, 1, completed_at,
       CASE WHEN fails THEN 500 ELSE 200 END, CASE WHEN fails THEN 'it answered 500' END
FROM (SELECT *, right(id, 3) = '003' AS fails FROM predictions WHERE completed_at IS NOT NULL) AS ended
WHERE right(id, 9)::bigint %% 3 = 0
"""

ACTIVITY = """
INSERT INTO activity (span_s, starts_at, model, counts)
SELECT span_s, at, CASE WHEN model < %(models)s THEN 'bench/' || model ELSE '' END,
       CASE WHEN model < %(models)s
            THEN '{"succeeded": 40, "failed": 2, "images": 80, "q-3": 9, "q2": 20, "d9": 30, "d12": 10, "l8": 1}'
            ELSE '{"delivered": 20, "retried": 2, "code 200": 20, "code 500": 2}' END::jsonb
FROM (VALUES (60), (900)) AS spans (span_s),
     generate_series(
         date_bin('15 minutes', now() - interval '2 days', 'epoch'), now(), make_interval(secs => span_s)) AS at,
     generate_series(0, %(models)s) AS model
"""

USAGE = """
INSERT INTO usage_totals (day, token_id, model, succeeded, images, steps, gpu_seconds)
SELECT (now() AT TIME ZONE 'UTC')::date - day, token_id, 'bench/' || model, 100, 200, 1600, 300.5
FROM generate_series(0, 364) AS day, generate_series(0, %(tokens)s - 1) AS token_id,
     generate_series(0, %(models)s - 1) AS model
"""


def fill(conn: Connection, total: int) -> None:
    values = {"total": total, "waiting": WAITING, "models": MODELS, "tokens": TOKENS}
    with conn.transaction():
        conn.execute("SET LOCAL session_replication_role = replica")  # the triggers would run a million times
        for statement in (PREDICTIONS, DELIVERIES, ACTIVITY, USAGE):
            conn.execute(statement, values)
    conn.execute("VACUUM ANALYZE")


def summarize(found: status.Status) -> None:
    """What the view makes of the series, which is most of what Python does."""
    for name in found.day:
        if name != WEBHOOKS:
            view.model_json(name, True, found)


def cases(conn: Connection) -> dict[str, Callable[[], object]]:
    today = datetime.now(UTC).date()
    month, year = today - timedelta(days=30), today - timedelta(days=364)
    found = status.read_status(conn)
    return {
        "queues of 5 models, 2,000 wait": lambda: read_queues(conn),
        "the hour by the minute": lambda: read_series(conn, step_s=MINUTE_S, points=status.HOUR_POINTS),
        "the day by the quarter": lambda: read_series(conn, step_s=QUARTER_S, points=status.DAY_POINTS),
        "failures by reason": lambda: conn.execute(
            status.FAILURES, (status.MAX_FAILURES, status.MAX_REASONS)
        ).fetchall(),
        "deliveries that failed lately": lambda: conn.execute(
            status.FAILING_DELIVERIES, (status.MAX_DELIVERIES,)
        ).fetchall(),
        "deliveries that are pending": lambda: read_pending_webhooks(conn),
        "workers": lambda: list_workers(conn),
        "models that can't be loaded": lambda: conn.execute(status.LOAD_FAILURES).fetchall(),
        "couriers": lambda: conn.execute(status.COURIERS).fetchall(),
        "sizes, the oldest data": lambda: conn.execute(status.STORED).fetchall(),
        "missing objects": lambda: count_missing(conn),
        "usage of a month by token": lambda: read_usage(conn, first=month, last=today, by=["token"], limit=50_001),
        "usage of a month by day, token, model": lambda: read_usage(
            conn, first=month, last=today, by=["day", "token", "model"], limit=50_001
        ),
        "usage of a month of one token by day": lambda: read_usage(
            conn, first=month, last=today, by=["day"], token_id=7, limit=50_001
        ),
        "usage of a year by day": lambda: read_usage(conn, first=year, last=today, by=["day"], limit=50_001),
        "all statements of /v1/status": lambda: status.read_status(conn),
        "percentiles and series, in Python": lambda: summarize(found),
    }


def measure(conn: Connection, rounds: int) -> str:
    """Markdown."""
    lines = ["| what | p50, ms | max, ms |", "|---|---:|---:|"]
    for name, work in cases(conn).items():
        work()  # warm
        times = []
        for _ in range(rounds):
            began = time.perf_counter()
            work()
            times.append(1000 * (time.perf_counter() - began))
        lines.append(f"| {name} | {median(times):.1f} | {max(times):.1f} |")
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--predictions", 1_000_000, quick=3000)
    options.size("--rounds", 50, quick=2)
    asked = options.read()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name:
        Path(name).chmod(0o755)
        postgres = EmbeddedPostgres(Path(name) / "postgres")
        postgres.start()
        try:
            with connect(postgres.url, application_name="bench") as conn:
                upgrade(Settings(database_url=postgres.url))
                conn.execute("SET synchronous_commit = off")
                fill(conn, asked.predictions)
                table = measure(conn, asked.rounds)
        finally:
            postgres.stop()
    publish("status", f"{asked.predictions} predictions, {asked.rounds} rounds.\n\n{table}", before, write=asked.write)


if __name__ == "__main__":
    main()
