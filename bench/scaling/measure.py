"""What each part of the service takes for a request, in CPU time, and how fast the whole is: measured, not modelled.

CPU time depends little on what else the machine does. The simulation is given the costs, and never the rates.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import psycopg

from bench.command import own_servers
from bench.json_http import post_json
from bench.load import Taken, post_again_and_again
from tests.support.eventually import eventually
from tests.support.receivers import Receiver
from tests.support.serving import Service, free_port, run, serving, stop, wait_until_ready

WARM_UP_S = 1.0
LOAD_S = 2.0
ROUNDS = 5
BODY: dict[str, Any] = {
    "model": "darkroom/blank",
    "input": {"prompt": "a red circle on a white table", "width": 64, "height": 64},
}
BACKLOG = 300
IDLE_S = 10.0
RATE_PER_S, RATE_FOR_S = 15.0, 10.0
COMMITS = 300
COMMIT_FOR_S = 2.0
SLOW_SYNC_US = 2000
# Procrastinate's, which tells of each job, and ours.
CHANNELS = ("procrastinate_any_queue_v1", "darkroom_events", "darkroom_submitted", "darkroom_workers")


class Cpu:
    """CPU seconds of groups of processes: ours are children of this process, and known by their command lines."""

    def __init__(self) -> None:
        self._began = self._read()
        self.began_at = time.perf_counter()

    def spent_s(self) -> dict[str, float]:
        now = self._read()
        return {group: now[group] - self._began[group] for group in now}

    def _read(self) -> dict[str, float]:
        found: dict[str, float] = defaultdict(float)
        me = psutil.Process().cpu_times()
        found["load"] = me.user + me.system
        for child in psutil.Process().children():
            group = _group_of(child)
            for each in [child, *child.children(recursive=True)]:
                try:
                    times = each.cpu_times()
                except psutil.NoSuchProcess:
                    continue
                found[group] += times.user + times.system
                if each == child:  # what has ended and was waited for
                    found[group] += times.children_user + times.children_system
        return found


def _group_of(process: psutil.Process) -> str:
    words = process.cmdline()
    for group in ("api", "worker", "courier"):
        if group in words:
            return group
    return "postgres" if words and words[0].endswith("postgres") else "s3"


def measure() -> dict[str, Any]:
    """{"costs": …, "observed": …, "turns": …}: seconds and rates."""
    costs: dict[str, float] = {}
    observed: dict[str, float] = {}
    with own_servers() as servers, tempfile.TemporaryDirectory(prefix="dr-bench-") as name:
        folder = Path(name)
        with serving(servers, folder, workers=False) as service:
            costs["commit_s"] = commit_s(service)
            for notifies in (False, True):
                what = f"commits of 16 connections a second, {'with' if notifies else 'without'} NOTIFY"
                observed[what] = commits_per_s(service, notifies=notifies)
        with serving(servers, folder, workers=False) as service, another_api(service) as url:
            turns = _submits(service.url, url)
            costs |= {name: median(turn["costs"][name] for turn in turns) for name in turns[0]["costs"]}
        drawn: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for workers in (1, 2, 2, 1, 1, 2):
            with serving(servers, folder, workers=False, courier=True) as service:
                drawn[workers].append(_draw_backlog(service, workers))
        for workers, rounds in drawn.items():
            found = {name: median(each[name] for each in rounds) for name in rounds[0]}
            observed[f"backlog, {workers} worker{'s' * (workers > 1)}: pictures a second"] = found.pop("per_s")
            if workers == 1:
                costs |= found
        with serving(servers, folder, workers=False, courier=True) as service:
            _idle_and_steady(service, costs, observed)
    # Linux leaves 5 % of each second to others when a process has real-time priority.
    costs["share"] = 0.95 if os.sched_getscheduler(0) in (os.SCHED_RR, os.SCHED_FIFO) else 1.0
    return {"costs": costs, "observed": observed, "turns": turns}


def commit_s(service: Service) -> float:
    """What syncing to the disk adds to one small transaction."""
    took = {}
    with psycopg.connect(service.settings.database_url, autocommit=True) as conn:
        conn.execute("CREATE TABLE bench_commits (n int)")
        for mode in ("on", "off"):
            conn.execute(f"SET synchronous_commit = {mode}")
            times = []
            for number in range(COMMITS):
                began = time.perf_counter()
                conn.execute("INSERT INTO bench_commits VALUES (%s)", (number,))
                times.append(time.perf_counter() - began)
            took[mode] = median(times)
    return max(0.0, took["on"] - took["off"])


def _load(url: str, connections: int) -> Taken:
    return post_again_and_again(
        f"{url}/v1/predictions", BODY, connections=connections, seconds=LOAD_S, warm_up_s=WARM_UP_S
    )


def commits_per_s(service: Service, *, notifies: bool, connections: int = 16) -> float:
    """Of small transactions on several connections, as on a disk that takes SLOW_SYNC_US longer to sync.

    Commits that come together share a sync, but a commit that notifies waits for all others that do.
    """
    end_at = time.perf_counter() + COMMIT_FOR_S

    def commit_again_and_again(_: int) -> int:
        done = 0
        with psycopg.connect(service.settings.database_url, autocommit=True) as conn:
            conn.execute(f"SET commit_delay = {SLOW_SYNC_US}")
            conn.execute("SET commit_siblings = 0")
            while time.perf_counter() < end_at:
                with conn.pipeline(), conn.transaction():
                    conn.execute("INSERT INTO bench_commits VALUES (1)")
                    if notifies:
                        conn.execute("NOTIFY bench_channel")
                done += 1
        return done

    with ThreadPoolExecutor(connections) as threads:
        return sum(threads.map(commit_again_and_again, range(connections))) / COMMIT_FOR_S


@contextmanager
def another_api(service: Service) -> Iterator[str]:
    port = free_port()
    process = run("api", service.environment, "--port", str(port))
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        stop([process])


def _submits(url: str, another: str) -> list[dict[str, dict[str, float]]]:
    """All loads in turn, several times: {"costs": …, "observed": …} of each turn.

    How fast a core is differs from minute to minute on a machine that is shared, so only figures of one turn are
    compared with each other.
    """
    turns = []
    for _ in range(ROUNDS):
        rates, spent = {}, {}
        for what, (urls, connections) in {
            "one API process, 1 connection": ([url], 1),
            "one API process, 8 connections": ([url], 8),
            "one API process, 64 connections": ([url], 64),
            "two API processes, 64 connections": ([url, another], 64),
        }.items():
            rates[f"{what}: POSTs a second"], spent[what] = _submit(urls, connections)
        print({what: round(per_s) for what, per_s in rates.items()}, flush=True)
        # What the others cost is for the simulation to find. A request that is alone takes less CPU time.
        known = {"alone": spent["one API process, 1 connection"], "submit": spent["one API process, 8 connections"]}
        costs = {
            f"{name}.{group}_s": each[group] for name, each in known.items() for group in ("load", "api", "postgres")
        }
        turns.append({"costs": costs, "observed": rates})
    return turns


def _submit(urls: list[str], connections: int) -> tuple[float, dict[str, float]]:
    """POSTs a second, and the CPU seconds of each."""
    cpu = Cpu()
    with ThreadPoolExecutor() as threads:
        share = connections // len(urls)
        taken = list(threads.map(lambda url: _load(url, share), urls))
    spent = cpu.spent_s()
    per_s = sum(each.per_second for each in taken)
    return per_s, {group: seconds / (per_s * (LOAD_S + WARM_UP_S)) for group, seconds in spent.items()}


@contextmanager
def _workers(service: Service, number: int) -> Iterator[list[subprocess.Popen[bytes]]]:
    processes = [run("worker", service.environment, "--model", "darkroom/blank") for _ in range(number)]
    try:
        with psycopg.connect(service.settings.database_url, autocommit=True) as conn:
            eventually(
                lambda: conn.execute("SELECT FROM workers WHERE state IN ('idle', 'drawing')").rowcount == number
            )
        yield processes
    finally:
        stop(processes)


def _draw_backlog(service: Service, workers: int) -> dict[str, float]:
    """So many predictions, each with a webhook, wait when the workers begin. Returns the rate, and costs for each."""
    with (
        Receiver().serving() as receiver,
        _workers(service, workers) as processes,
        psycopg.connect(service.settings.database_url, autocommit=True) as conn,
    ):
        body = BODY | {"webhook": receiver.url, "webhook_events_filter": ["completed"]}
        for _ in range(8):  # what is done for the first time costs more
            post_json(f"{service.url}/v1/predictions", body)
        eventually(lambda: len(receiver.requests) == 8)
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        for _ in range(BACKLOG):
            post_json(f"{service.url}/v1/predictions", body)
        listener = psycopg.connect(service.settings.database_url, autocommit=True)
        for channel in CHANNELS:
            listener.execute(f"LISTEN {channel}")
        cpu, before = Cpu(), _written(conn)
        for process in processes:
            process.send_signal(signal.SIGCONT)
        eventually(lambda: len(receiver.requests) == 8 + BACKLOG, every_s=0.05)
        spent, after = cpu.spent_s(), _written(conn)
        senders = [notification.pid for notification in listener.notifies(timeout=1.0)]
        listener.close()
        row = conn.execute(
            """
            SELECT extract(epoch FROM max(completed_at) - min(started_at))::float FROM
            (SELECT * FROM predictions ORDER BY created_at DESC LIMIT %s) AS backlog
            """,
            (BACKLOG,),
        ).fetchone()
    assert row is not None
    print(f"backlog of {BACKLOG}, {workers} workers: {BACKLOG / row[0]:.1f} pictures/s", flush=True)
    return {
        "per_s": BACKLOG / row[0],
        "draw.wal_bytes": (after[0] - before[0]) / BACKLOG,
        "draw.commits": (after[1] - before[1]) / BACKLOG,
        # Neighbours from the same backend are counted as one commit, so it may be a few more.
        "draw.notifying_commits": sum(1 for _ in groupby(senders)) / BACKLOG,
    } | {f"draw.{group}_s": spent[group] / BACKLOG for group in ("worker", "postgres", "s3", "courier", "load")}


def _idle_and_steady(service: Service, costs: dict[str, float], observed: dict[str, float]) -> None:
    with _workers(service, 2), psycopg.connect(service.settings.database_url, autocommit=True) as conn:
        post_json(f"{service.url}/v1/predictions", BODY)
        eventually(lambda: _over(conn) == 1)
        cpu = Cpu()
        time.sleep(IDLE_S)
        costs["idle.postgres_s_per_worker_s"] = cpu.spent_s()["postgres"] / IDLE_S / 2
        row = conn.execute(
            "SELECT count(*)::float / 2 FROM pg_stat_activity WHERE application_name LIKE 'darkroom worker%'"
            " AND datname = current_database()"
        ).fetchone()
        assert row is not None
        costs["idle.connections_per_worker"] = row[0]
        chance = random.Random(1)
        begin = time.perf_counter()
        at_s, sent = 0.0, 0
        while (at_s := at_s + chance.expovariate(RATE_PER_S)) < RATE_FOR_S:
            time.sleep(max(0.0, begin + at_s - time.perf_counter()))
            post_json(f"{service.url}/v1/predictions", BODY)
            sent += 1
        eventually(lambda: _over(conn) == 1 + sent)
        row = conn.execute(
            """
            SELECT extract(epoch FROM percentile_cont(0.5) WITHIN GROUP (ORDER BY completed_at - created_at))::float
            FROM (SELECT * FROM predictions ORDER BY created_at OFFSET 1) AS sent
            """
        ).fetchone()
    assert row is not None
    observed[f"{RATE_PER_S:.0f} a second, 2 workers: median seconds to a picture"] = row[0]
    print(f"{RATE_PER_S:.0f}/s, 2 workers: {row[0]:.3f} s", flush=True)


def _written(conn: psycopg.Connection[Any]) -> tuple[float, float]:
    """Bytes of the log of changes, and commits of this database."""
    time.sleep(1.5)  # a backend tells its counts when it is idle, at most once a second
    row = conn.execute(
        "SELECT (pg_current_wal_insert_lsn() - '0/0')::float, xact_commit::float FROM pg_stat_database"
        " WHERE datname = current_database()"
    ).fetchone()
    assert row is not None
    return row[0], row[1]


def _over(conn: psycopg.Connection[tuple[int]]) -> int:
    row = conn.execute("SELECT count(*) FROM predictions WHERE completed_at IS NOT NULL").fetchone()
    assert row is not None
    return row[0]
