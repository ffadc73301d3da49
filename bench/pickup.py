"""From a POST to the beginning of the drawing, with an idle worker: Darkroom, FastAPI + Celery + Redis, and PgQueuer.

    python -m bench.pickup [--requests 300] [--peer-python PYTHON] [--write]

Each side is one API process and one worker that waits for work; all run at the same time, and get one request after the
other, in turn. The time goes from sending the POST until the worker's own code runs: the engine of Darkroom (blank: it
draws nothing), a task of Celery, a job of PgQueuer. All three sync to the disk before they answer. `--write` puts the
table into docs/benchmarks.md.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import urllib3

from bench.celery_stack import celery_stack, make_environment, pgqueuer_stack, redis_server
from bench.command import CommandLine, own_servers, publish
from bench.report import machine
from tests.conftest import REPOSITORY, RunningServices, _create_database
from tests.support.serving import serving, stop

OURS, CELERY, PGQUEUER = "Darkroom", "FastAPI + Celery + Redis", "FastAPI + PgQueuer"
BETWEEN_S = 0.02
BEGINS_WITHIN_S = 60.0


class Side:
    """One side: where it is asked, and the file into which its worker writes `seed time` when it begins."""

    def __init__(self, url: str, told: Path) -> None:
        self._url = f"{url}/v1/predictions"
        self._told = told
        self._pool = urllib3.PoolManager(maxsize=1)
        self._read = 0

    def ask(self, seed: int) -> tuple[float, float]:
        """Seconds until the answer, and until the worker began."""
        body = {"model": "darkroom/blank", "input": {"prompt": "a red circle", "width": 64, "height": 64, "seed": seed}}
        payload = json.dumps(body).encode()
        sent_at = time.time()
        answer = self._pool.request("POST", self._url, body=payload, headers={"Content-Type": "application/json"})
        answered_at = time.time()
        if answer.status != 201:
            raise SystemExit(f"{self._url}: {answer.status} {answer.data[:500]!r}")
        return answered_at - sent_at, self._begun_at(seed) - sent_at

    def _begun_at(self, seed: int) -> float:
        give_up_at = time.monotonic() + BEGINS_WITHIN_S
        while time.monotonic() < give_up_at:
            with self._told.open() as file:
                file.seek(self._read)
                came = file.read()
            for line in came.splitlines(keepends=True):
                if line.endswith("\n"):
                    self._read += len(line.encode())
                    words = line.split()
                    if words[:1] == [str(seed)]:
                        return float(words[1])
            time.sleep(0.001)
        raise SystemExit(f"{self._url}: the worker did not begin within {BEGINS_WITHIN_S:.0f} s")


def measure(sides: dict[str, Side], requests: int, warm_up: int) -> dict[str, list[tuple[float, float]]]:
    """(until the answer, until it begins) of each request, in seconds; the sides take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in sides}
    for number in range(warm_up + requests):
        for name in sorted(sides, reverse=bool(number % 2)):
            taken = sides[name].ask(number + 1)
            if number >= warm_up:
                found[name].append(taken)
            time.sleep(BETWEEN_S)
    return found


def table(found: dict[str, list[tuple[float, float]]]) -> str:
    """Markdown. A ratio is the median of the ratios of neighbouring requests; that of a p99, of the two p99."""
    lines = [
        "| | answer p50, ms | begins p50, ms | begins p99, ms | Darkroom's p50 ÷ its | Darkroom's p99 ÷ its |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    ours = [begun for _, begun in found[OURS]]
    for name, taken in found.items():
        begun = [each for _, each in taken]
        lines.append(
            f"| {name} | {1000 * median(answer for answer, _ in taken):.1f} | {1000 * median(begun):.1f} "
            f"| {1000 * _p99(begun):.1f} | {median(a / b for a, b in zip(ours, begun, strict=True)):.2f} "
            f"| {_p99(ours) / _p99(begun):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--requests", 300, quick=5)
    options.size("--warm-up", 20, quick=1, explanation="requests of each side that don't count")
    options.add_argument("--peer-python", type=Path)
    asked = options.read()
    redis_server()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        python = asked.peer_python or make_environment(folder / "peer")
        told = {side: folder / f"{index}.txt" for index, side in enumerate((OURS, CELERY, PGQUEUER))}
        writing = {side: stack.enter_context(file.open("w")) for side, file in told.items()}
        servers = stack.enter_context(own_servers())
        service = stack.enter_context(serving(servers, folder, workers=False))
        worker = subprocess.Popen(
            [sys.executable, "-m", "bench.pickup_worker"],
            cwd=REPOSITORY,
            env=service.environment,
            stdin=subprocess.DEVNULL,
            stdout=writing[OURS],
        )
        stack.callback(stop, [worker])
        urls = {
            OURS: service.url,
            CELERY: stack.enter_context(celery_stack(folder, python, tells=writing[CELERY])),
            PGQUEUER: stack.enter_context(pgqueuer_stack(python, _database(servers), tells=writing[PGQUEUER])),
        }
        found = measure({side: Side(url, told[side]) for side, url in urls.items()}, asked.requests, asked.warm_up)
    publish("pickup", f"{asked.requests} requests of each, in turn.\n\n{table(found)}", before, write=asked.write)


def _database(servers: RunningServices) -> str:
    """An empty one on the same Postgres, which goes with it."""
    name = f"peer{secrets.token_hex(4)}"
    _create_database(servers, name)
    return servers.url_of(name)


def _p99(seconds: list[float]) -> float:
    return sorted(seconds)[min(len(seconds) - 1, int(0.99 * len(seconds)))]


if __name__ == "__main__":
    main()
