"""Thousands of clients that never finish, at one API process: whether others are answered meanwhile, and what it costs.

    python -m bench.slow_clients [--clients 2000] [--seconds 10] [--write]

One kind of slow client after the other (tests/support/slow_clients.py), then all at once. Meanwhile another client asks
/healthz and submits, each on a new connection; an answer that takes more than 5 s counts as none. Those that the server
closes come again.
"""

from __future__ import annotations

import http.client
import json
import resource
import tempfile
import threading
import time
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles
from urllib.parse import urlsplit

import psutil

from bench.command import CommandLine, own_servers, publish
from bench.report import machine
from tests.support.serving import Service, serving
from tests.support.slow_clients import KINDS, Kind, SlowClients

BODY = json.dumps({"model": "darkroom/nobody", "input": {"prompt": "x"}})
PATIENCE_S = 5.0
PAUSE_S = 0.05
# What they ask for at first are whole requests, of some kinds: those have their turn.
SETTLE_S = 30.0


@dataclass
class Asked:
    """How long the answers took, in seconds, and how many did not come."""

    took_s: list[float] = field(default_factory=list)
    missing: int = 0

    def __str__(self) -> str:
        if len(self.took_s) < 2:
            return f"none of {len(self.took_s) + self.missing}"
        cuts = [1000 * cut for cut in quantiles(self.took_s, n=100)]
        count = f"{len(self.took_s)} of {len(self.took_s) + self.missing}"
        return f"{count}: p50 {cuts[49]:.0f}, p99 {cuts[98]:.0f}, max {1000 * max(self.took_s):.0f} ms"


def ask(service: Service, asked: Asked, method: str, path: str, body: str | None, status: int) -> None:
    began = time.perf_counter()
    try:
        with closing(http.client.HTTPConnection(urlsplit(service.url).netloc, timeout=PATIENCE_S)) as connection:
            connection.request(method, path, body, {"Content-Type": "application/json"} if body else {})
            answered = connection.getresponse()
            answered.read()
    except (OSError, http.client.HTTPException):
        asked.missing += 1
        return
    took_s = time.perf_counter() - began
    if answered.status == status and took_s <= PATIENCE_S:
        asked.took_s.append(took_s)
    else:
        asked.missing += 1


def api_process() -> psutil.Process:
    """The process of gunicorn that serves: the largest of `darkroom api`."""
    found = [
        child
        for child in psutil.Process().children(recursive=True)
        if "api" in child.cmdline() and "cli.main" in child.cmdline()
    ]
    return max(found, key=lambda child: child.memory_info().rss)


def measure(service: Service, kinds: list[Kind], clients: int, seconds: float) -> str:
    """One line of the table."""
    api = api_process()
    before = api.memory_info().rss
    slow = SlowClients(service.url, clients // len(kinds), kinds)
    stopping = threading.Event()

    def be_slow() -> None:
        while not stopping.is_set():
            slow.go_on(0.5)

    thread = threading.Thread(target=be_slow)
    health, submits = Asked(), Asked()
    most = before
    try:
        slow.come()
        thread.start()
        came_at = time.monotonic()
        first = Asked()
        while not first.took_s and time.monotonic() < came_at + SETTLE_S:
            ask(service, first, "GET", "/healthz", None, 200)
        first_s = f"{time.monotonic() - came_at:.1f} s" if first.took_s else f"none in {SETTLE_S:.0f} s"
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            ask(service, health, "GET", "/healthz", None, 200)
            ask(service, submits, "POST", "/v1/predictions", BODY, 201)
            most = max(most, api.memory_info().rss)
            time.sleep(PAUSE_S)
    finally:
        stopping.set()
        if thread.ident is not None:
            thread.join()
        slow.leave()
    name = kinds[0].name if len(kinds) == 1 else "all kinds"
    memory, sent_away = f"{(most - before) / 2**20:.0f} MB", sum(slow.closed.values())
    line = f"| {name} | {clients} | {first_s} | {health} | {submits} | {memory} | {sent_away} |"
    print(line, flush=True)
    time.sleep(2)
    return line


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--clients", 2000, quick=8)
    options.size("--seconds", 10.0, quick=0.5)
    asked = options.read()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    before = machine()
    lines = [
        "| slow clients that send … | clients | first answer | /healthz | POST /v1/predictions | memory | sent away |",
        "|---|---:|---:|---|---|---:|---:|",
    ]
    print("\n".join(lines), flush=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        own_servers() as servers,
        serving(servers, Path(folder), workers=False) as service,
    ):
        lines += [measure(service, [kind], asked.clients, asked.seconds) for kind in KINDS]
        lines.append(measure(service, list(KINDS), asked.clients, asked.seconds))
    publish("slow_clients", "\n".join(lines), before, write=asked.write)


if __name__ == "__main__":
    main()
