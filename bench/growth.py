"""Whether Darkroom gets slower as it fills: the same requests on databases that hold more and more.

    python -m bench.growth [--finished 1000000] [--queued 100000] [--tokens 1000] [--rounds 100] [--write]

Each database has an API and a worker (blank: it draws nothing) of its own, on one Postgres. In each round, every one of
them gets the same requests, in turn; a ratio is that of the medians to those of the empty one. Filling a million takes
some minutes. `pickup`: from a POST until the worker begins. The queue is of another model, which nobody draws.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import urllib3

from bench.command import CommandLine, own_servers, publish
from bench.json_http import post_json
from bench.pickup import Side
from bench.report import machine
from storage.postgres.database import Connection, connect
from storage.postgres.procrastinate import queue_name_of
from storage.predictions.parameters import Parameters
from storage.predictions.submit import Submission, submit
from tests.conftest import REPOSITORY
from tests.support.serving import Service, serving, stop

MODEL = "darkroom/nobody"
EMPTY = "empty"
AT_ONCE = 50_000
PARAMETERS = Parameters("x", 64, 64, num_inference_steps=1, guidance_scale=0.0, seed=7).to_json()
FINISHED = """
INSERT INTO predictions (
    id, status, model, version, queue_name, input, parameters, created_at, started_at, completed_at, deadline_at
)
SELECT '01' || lpad(n::text, 24, '0'), 'succeeded', 'darkroom/blank', '1', 'draw-bench', '{"prompt": "a red circle"}',
       '{"seed": 7}', made_at, made_at, made_at + interval '2 s', made_at + interval '1 day'
FROM (
    SELECT n, now() - (%(total)s - n) * interval '1 s' AS made_at
    FROM generate_series(%(first)s::int, %(last)s::int) AS n
) AS made
"""


def fill_finished(conn: Connection, total: int) -> None:
    with conn.transaction():
        conn.execute("SET LOCAL session_replication_role = replica")  # the triggers would run a million times
        for first in range(1, total + 1, AT_ONCE):
            last = min(total, first + AT_ONCE - 1)
            conn.execute(FINISHED, {"total": total, "first": first, "last": last})


def fill_queue(conn: Connection, count: int, *, tokens: int = 1) -> None:
    """As requests would, but many in a transaction."""
    for first in range(0, count, 1000):
        with conn.transaction():
            for number in range(first, min(count, first + 1000)):
                token = number % tokens + 1 if tokens > 1 else None
                submit(
                    conn,
                    Submission(MODEL, "1", queue_name_of(MODEL), {"prompt": "x"}, PARAMETERS, 86_400, token_id=token),
                )


def measures(service: Service, side: Side) -> dict[str, Callable[[int], float]]:
    """Name → a function of the round's number that returns seconds."""
    pool = urllib3.PoolManager(maxsize=1)

    def get(path: str) -> float:
        began = time.perf_counter()
        answer = pool.request("GET", service.url + path)
        assert answer.status == 200, answer.data[:300]
        return time.perf_counter() - began

    def post(number: int) -> float:
        began = time.perf_counter()
        post_json(f"{service.url}/v1/predictions", {"model": MODEL, "input": {"prompt": "x", "seed": number}})
        return time.perf_counter() - began

    return {
        "submit": post,
        "pickup": lambda number: side.ask(number + 1)[1],
        "a page of the list": lambda _: get("/v1/predictions"),
        "`/metrics`": lambda _: get("/metrics"),
    }


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--finished", 1_000_000, quick=300)
    options.size("--queued", 100_000, quick=20)
    options.size("--tokens", 1_000, quick=5)
    options.size("--rounds", 100, quick=2)
    options.size("--warm-up", 5, quick=1, explanation="rounds that don't count")
    asked = options.read()
    before = machine()
    few = asked.finished // 100
    states: dict[str, Callable[[Connection], None]] = {
        EMPTY: lambda conn: None,
        f"{few:,} finished": lambda conn: fill_finished(conn, few),
        f"{asked.finished:,} finished": lambda conn: fill_finished(conn, asked.finished),
        f"{asked.queued:,} queued": lambda conn: fill_queue(conn, asked.queued),
        f"{asked.tokens:,} tokens wait": lambda conn: fill_queue(conn, asked.tokens, tokens=asked.tokens),
    }
    taken: dict[tuple[str, str], list[float]] = {}
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name, ExitStack() as stack:
        servers = stack.enter_context(own_servers())
        ways: dict[str, dict[str, Callable[[int], float]]] = {}
        for index, (state, fill) in enumerate(states.items()):
            folder = Path(name) / str(index)
            folder.mkdir()
            service = stack.enter_context(serving(servers, folder, workers=False))
            began = time.perf_counter()
            with connect(service.settings.database_url, application_name="bench") as conn:
                fill(conn)
                conn.execute("VACUUM ANALYZE")
            print(f"{state}: filled in {time.perf_counter() - began:.0f} s", flush=True)
            told = folder / "told.txt"
            worker = subprocess.Popen(
                [sys.executable, "-m", "bench.pickup_worker"],
                cwd=REPOSITORY,
                env=service.environment,
                stdin=subprocess.DEVNULL,
                stdout=stack.enter_context(told.open("w")),
            )
            stack.callback(stop, [worker])
            ways[state] = measures(service, Side(service.url, told))
        for number in range(asked.warm_up + asked.rounds):
            for what in ways[EMPTY]:
                for state in sorted(ways, reverse=bool(number % 2)):
                    seconds = ways[state][what](number)
                    if number >= asked.warm_up:
                        taken.setdefault((what, state), []).append(seconds)
    publish("growth", table(taken, list(states)), before, write=asked.write)


def table(taken: dict[tuple[str, str], list[float]], states: list[str]) -> str:
    """Markdown: medians in ms, and, but for the first, their ratio to those of the empty database."""
    lines = [f"| median, ms (ratio) | {' | '.join(states)} |", f"|---|{'---:|' * len(states)}"]
    for what in dict.fromkeys(what for what, _ in taken):
        base = median(taken[what, states[0]])
        cells = [f"{1000 * base:.1f}"]
        for state in states[1:]:
            here = median(taken[what, state])
            cells.append(f"{1000 * here:.1f} ({here / base:.2f})")
        lines.append(f"| {what} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
