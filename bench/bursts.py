"""How long workers hold their device beside how long they draw, over a trace of bursts.

    python -m bench.bursts [--only WAY] [--timeline] [--write]

The trace: quiet, 40 requests at once, quiet, one every 3 s, quiet, then two models at once. It is sent to one
`darkroom up` after the other: with a worker for each model that is always ready (two places), and with one place, whose
workers end after 60 s or 1 s without work, or stand by after 0.5 s. The models are blank engines that take 0.5 s for a
picture and 1 s to load, one picture at a time, so that the figures are those of the scaling and not of this machine.

A worker holds its device from when it signs in, before it loads its model, until it has ended, except while it stands
by. The table `workers` is read every 50 ms for that. Drawing is the sum of `gpu_time`. `--timeline` prints for each
worker what it did when. Linux only.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.command import CommandLine, publish
from bench.held_time import HeldTime, holding
from bench.report import machine
from cli.which_database import settings_for
from storage.postgres.database import connect
from tests.acceptance.running_up import RunningUp, up
from tests.support.eventually import eventually

MODELS = ("bench/first", "bench/second")
CATALOG = """
[models."{name}"]
engine = "blank"
defaults = {{ width = 64, height = 64, num_inference_steps = 5 }}
limits = {{ multiple_of = 16 }}
max_batch = 1
blank = {{ load_s = 1.0, step_s = 0.1 }}
warm = {{ min_workers = {min_workers} }}
"""


@dataclass(frozen=True)
class Way:
    """One way to run workers."""

    name: str
    options: tuple[str, ...]
    min_workers: int = 0
    standby_after_s: str = ""


WAYS = (
    Way("always on, a place for each model", ("--workers", "2"), min_workers=1),
    Way("`--idle-exit 60`", ("--workers", "1")),
    Way("`--idle-exit 1`", ("--workers", "1", "--idle-exit", "1")),
    Way("`STANDBY_AFTER_S=0.5`", ("--workers", "1", "--idle-exit", "600"), standby_after_s="0.5"),
)


@dataclass(frozen=True)
class Trace:
    """What is sent: a burst, then a trickle of single requests, then some to both models, with quiet between them."""

    quiet_s: float
    burst: int
    trickle: int
    trickle_every_s: float
    together: int


@dataclass
class Found:
    """What a way came to. `waits_s`: from the POST to the claim."""

    held: HeldTime
    drawing_s: float
    asked: int
    succeeded: int
    waits_s: list[float]

    def row(self, name: str) -> str:
        waits = sorted(self.waits_s)
        p50, p95 = statistics.median(waits), waits[int(0.95 * len(waits))]
        spent = self.held.by_state
        beside_s = spent["at work"] - self.drawing_s
        return (
            f"| {name} | {self.asked} | {self.asked - self.succeeded} | {self.held.seconds:.1f} | {self.drawing_s:.1f}"
            f" | {spent['loading']:.1f} | {beside_s:.1f} | {spent['idle']:.1f} | {spent['draining']:.1f}"
            f" | {self.held.seconds / self.drawing_s:.2f} | {p50:.1f} | {p95:.1f} |"
        )


def send_trace(running: RunningUp, trace: Trace) -> list[str]:
    """The ids of all predictions, which have ended when this returns."""
    first, second = MODELS
    sent: list[str] = []

    def submit(model: str) -> None:
        sent.append(running.submit(model, cache=False))

    def wait() -> None:
        for prediction in sent:
            running.wait_for_status(prediction, "succeeded", "failed", timeout_s=300)

    time.sleep(trace.quiet_s)
    for _ in range(trace.burst):
        submit(first)
    wait()
    time.sleep(trace.quiet_s)
    for _ in range(trace.trickle):
        submit(first)
        time.sleep(trace.trickle_every_s)
    wait()
    time.sleep(trace.quiet_s)
    for number in range(trace.together):
        submit((first, second)[number % 2])
    wait()
    time.sleep(trace.quiet_s)
    return sent


def measure(way: Way, folder: Path, trace: Trace) -> Found:
    folder.mkdir()
    catalog = "".join(CATALOG.format(name=name, min_workers=way.min_workers) for name in MODELS)
    (folder / "models.toml").write_text(catalog)
    env = {"STANDBY_AFTER_S": way.standby_after_s} if way.standby_after_s else {}
    with up(folder, *way.options, env=env) as running:
        url = settings_for(folder / "data").database_url
        if way.min_workers:
            eventually(lambda: running.output.count("worker.ready") == len(MODELS), 60)
        with holding(url) as held:
            sent = send_trace(running, trace)
        rows: list[dict[str, Any]] = []
        with connect(url, application_name="bench") as conn:
            rows = conn.execute(
                "SELECT status, metrics, extract(epoch FROM started_at - created_at)::float AS wait_s"
                " FROM predictions WHERE id = ANY(%s)",
                (sent,),
            ).fetchall()
    drawn = [row for row in rows if row["status"] == "succeeded"]
    drawing_s = sum(row["metrics"]["gpu_time"] for row in drawn)
    return Found(held, drawing_s, len(sent), len(drawn), [row["wait_s"] for row in drawn])


def main() -> None:
    options = CommandLine(__doc__)
    options.size(
        "--only", "", quick="STANDBY", explanation="only the ways of running workers whose name has this in it"
    )
    options.size("--quiet-s", 10.0, quick=1.0)
    options.size("--burst", 40, quick=3, explanation="requests at once")
    options.size("--trickle", 10, quick=1, explanation="requests one by one")
    options.size("--trickle-every-s", 3.0, quick=1.0)
    options.size("--together", 20, quick=2, explanation="requests to two models at once")
    options.add_argument("--timeline", action="store_true", help="print for each worker what it did when")
    asked = options.read()
    trace = Trace(asked.quiet_s, asked.burst, asked.trickle, asked.trickle_every_s, asked.together)
    before = machine()
    lines = [
        "| workers | predictions | lost | held, s | drawing, s | loading, s | claims and uploads, s | idle, s"
        " | leaving, s | held ÷ drawing | wait p50, s | wait p95, s |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name:
        Path(name).chmod(0o711)
        for number, way in enumerate(way for way in WAYS if asked.only in way.name):
            found = measure(way, Path(name) / f"{number}", trace)
            lines.append(found.row(way.name))
            print(lines[-1], flush=True)
            if asked.timeline:
                print(found.held.timeline(), flush=True)
    publish("bursts", "\n".join(lines), before, write=asked.write)


if __name__ == "__main__":
    main()
