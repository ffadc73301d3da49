"""Submits a second and their latency: Darkroom beside FastAPI + Celery + Redis, durable on both sides.

    python -m bench.submit [--rounds 5] [--seconds 6] [--connections 1 8 64] [--write]

One process each, on this machine, with the same load generator, run after run alternating. Both sync before they
answer: Postgres with synchronous_commit, Redis with `appendfsync always`. No worker draws. `--write` puts the table
into docs/benchmarks.md. The peer is installed into a throw-away environment; `--peer-python` names one that is there.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from bench.celery_stack import celery_stack, make_environment, redis_server
from bench.command import CommandLine, own_servers, publish
from bench.load import Taken, post_again_and_again
from bench.report import machine
from tests.support.serving import serving

BODY = {"model": "darkroom/nobody", "input": {"prompt": "a red circle on a white table", "width": 64, "height": 64}}
WARM_UP_S = 1.0
OURS, THEIRS = "Darkroom", "FastAPI + Celery + Redis"


@dataclass(frozen=True)
class Line:
    """The medians of one side at one number of connections."""

    per_second: float
    p50_ms: float
    p99_ms: float

    @staticmethod
    def of(runs: list[Taken]) -> Line:
        return Line(
            median(run.per_second for run in runs),
            median(run.quantile_ms(50) for run in runs),
            median(run.quantile_ms(99) for run in runs),
        )


def measure(
    urls: dict[str, str], connections: int, rounds: int, seconds: float, warm_up_s: float
) -> dict[str, list[Taken]]:
    """Runs of both sides in turn; who begins alternates too."""
    taken: dict[str, list[Taken]] = {side: [] for side in urls}
    for number in range(rounds):
        for side in sorted(urls, reverse=bool(number % 2)):
            url = f"{urls[side]}/v1/predictions"
            run = post_again_and_again(url, BODY, connections=connections, seconds=seconds, warm_up_s=warm_up_s)
            taken[side].append(run)
            print(
                f"{connections:>3} connections, {side:<{len(THEIRS)}}: {run.per_second:6.0f}/s, "
                f"p50 {run.quantile_ms(50):6.1f} ms, p99 {run.quantile_ms(99):6.1f} ms",
                flush=True,
            )
    return taken


def table(taken: dict[int, dict[str, list[Taken]]]) -> str:
    """Markdown. A ratio is the median of the ratios of neighbouring runs: over 1.0 throughput, Darkroom took more."""
    lines = ["| connections | | requests/s | p50 ms | p99 ms |", "|---:|---|---:|---:|---:|"]
    for connections, sides in taken.items():
        for side, runs in sides.items():
            line = Line.of(runs)
            lines.append(f"| {connections} | {side} | {line.per_second:.0f} | {line.p50_ms:.1f} | {line.p99_ms:.1f} |")
        pairs = list(zip(sides[OURS], sides[THEIRS], strict=True))
        lines.append(
            f"| {connections} | *Darkroom ÷ peer* "
            f"| {median(a.per_second / b.per_second for a, b in pairs):.2f} "
            f"| {median(a.quantile_ms(50) / b.quantile_ms(50) for a, b in pairs):.2f} "
            f"| {median(a.quantile_ms(99) / b.quantile_ms(99) for a, b in pairs):.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    options = CommandLine(__doc__)
    options.size("--rounds", 5, quick=1)
    options.size("--seconds", 6.0, quick=2.0)
    options.size("--warm-up-s", WARM_UP_S, quick=0.1)
    options.size("--connections", [1, 8, 64], quick=[1, 2])
    options.add_argument("--peer-python", type=Path)
    asked = options.read()
    redis_server()
    before = machine()
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as name:
        folder = Path(name)
        python = asked.peer_python or make_environment(folder / "peer")
        with (
            own_servers() as servers,
            serving(servers, folder, workers=False) as service,
            celery_stack(folder, python) as peer,
        ):
            urls = {OURS: service.url, THEIRS: peer}
            taken = {
                connections: measure(urls, connections, asked.rounds, asked.seconds, asked.warm_up_s)
                for connections in asked.connections
            }
    how = f"Medians of {asked.rounds} runs of {asked.seconds:g} s each, both sides in turn."
    publish("submit", f"{how}\n\n{table(taken)}", before, write=asked.write)


if __name__ == "__main__":
    main()
