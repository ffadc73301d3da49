"""How far one Postgres goes: measure this machine, check the simulation with it, and ask it for more than there is.

    python -m bench.scaling [--costs FILE] [--write]

Costs and rates are measured (2 minutes) and kept in FILE (bench/scaling/costs.json); with --simulate-only they are read
from it. On a machine that does other work too, run it with real-time priority: `chrt --rr 5 python -m bench.scaling`.
`--write` puts the tables into docs/scaling.md. `--quick` only simulates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any

from bench.command import CommandLine
from bench.report import machine
from bench.scaling.simulation import Deployment, backlog, closed_loop, steady
from tests.support.report_sections import write_section

COMMAND = "python -m bench.scaling"
PAGE = Path(__file__).parents[2] / "docs" / "scaling.md"
COSTS = Path(__file__).parent / "costs.json"
CORES_HERE = 2
SIMULATED_S = 4.0
# What is asked: each GPU draws 10 pictures a second, eight at a time.
SLOW_SYNC_S = 0.002  # bench.scaling.measure.SLOW_SYNC_US
GPUS, REQUESTS_PER_S, GPU_DRAW_S, GPU_AT_ONCE = 1000, 10_000, 0.8, 8
POSTGRES_CORES = (8, 16, 32, 64, 128)
COMMIT_S = (0.0001, 0.0005, 0.001, 0.002, 1e-9)  # the last: as if no commit waited for another one


def main() -> None:
    options = CommandLine(__doc__, writes=False)
    options.add_argument("--costs", type=Path, default=COSTS)
    options.add_argument("--simulate-only", action="store_true")
    options.add_argument("--write", action="store_true", help="into docs/scaling.md")
    asked = options.read()
    if not (asked.simulate_only or asked.quick):
        from bench.scaling.measure import measure

        before = machine()
        asked.costs.write_text(json.dumps(measure() | {"machine": before}, indent=1) + "\n")
    known = json.loads(asked.costs.read_text())
    lines = [
        *_costs_table(known["costs"]),
        *_check_table(known),
        *_limits_table(known["costs"]),
        *_shards_table(known["costs"]),
        f"Measured {known['machine']}",
    ]
    print("\n".join(lines))
    if asked.write:
        write_section(PAGE, COMMAND, lines)


def _costs_table(costs: Mapping[str, float]) -> list[str]:
    def ms(name: str) -> str:
        return f"{1000 * costs[name]:.2f}"

    return [
        "| CPU time, ms | API | Postgres | worker | S3 server | courier |",
        "|---|---|---|---|---|---|",
        f"| a POST | {ms('submit.api_s')} | {ms('submit.postgres_s')} | | | |",
        f"| its picture and webhook | | {ms('draw.postgres_s')} | {ms('draw.worker_s')} | {ms('draw.s3_s')}"
        f" | {ms('draw.courier_s')} |",
        f"| a second of an idle worker | | {ms('idle.postgres_s_per_worker_s')} | | | |",
        "",
        f"A picture takes {costs['draw.commits']:.0f} commits after its POST, of which about"
        f" {costs['draw.notifying_commits']:.1f} notify, and {costs['draw.wal_bytes'] / 1000:.0f} kB of the log of"
        f" changes. Syncing a commit takes {1000 * costs['commit_s']:.2f} ms. A worker has"
        f" {costs['idle.connections_per_worker']:.0f} connections.",
        "",
    ]


def _check_table(known: Mapping[str, Any]) -> list[str]:
    """A table of the measured figures and the simulated ones."""
    lines = [
        "| | measured | simulated | off by |",
        "|---|---|---|---|",
        _notify_line(known["costs"], known["observed"]),
    ]
    turns = [_pairs_of_posts(known["costs"] | turn["costs"], turn["observed"]) for turn in known["turns"]]
    for what in turns[0]:
        measured = median(turn[what][0] for turn in turns)
        off_by = median(turn[what][1] / turn[what][0] for turn in turns) - 1
        lines.append(_check_line(what, measured, measured * (1 + off_by)))
    lines += [_check_line(what, *pair) for what, pair in _pairs_of_pictures(known["costs"], known["observed"]).items()]
    return [*lines, ""]


def _here(costs: Mapping[str, float], **more: Any) -> Deployment:
    slower = {name: value / costs["share"] for name, value in costs.items() if name.endswith("_s")}
    return Deployment({**costs, **slower}, CORES_HERE, all_on_one_machine=True, **more)


def _pairs_of_posts(costs: Mapping[str, float], observed: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    found = {
        "one API process, 1 connection: POSTs a second": closed_loop(_here(costs, alone=True), 1, SIMULATED_S),
        "one API process, 8 connections: POSTs a second": closed_loop(_here(costs), 8, SIMULATED_S),
        "one API process, 64 connections: POSTs a second": closed_loop(_here(costs), 64, SIMULATED_S),
        "two API processes, 64 connections: POSTs a second": closed_loop(
            _here(costs, api_processes=2), 64, SIMULATED_S
        ),
    }
    return {what: (observed[what], per_s) for what, (per_s, _) in found.items()}


def _pairs_of_pictures(costs: Mapping[str, float], observed: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    found = {
        "backlog, 1 worker: pictures a second": backlog(_here(costs, workers=1), 300),
        "backlog, 2 workers: pictures a second": backlog(_here(costs, workers=2), 300),
        "15 a second, 2 workers: median seconds to a picture": steady(_here(costs, workers=2), 15.0, 10.0)[1],
    }
    return {what: (observed[what], value) for what, value in found.items()}


def _check_line(what: str, measured: float, simulated: float) -> str:
    off_by = 100 * (simulated / measured - 1)
    return f"| {what} | {_number(measured)} | {_number(simulated)} | {off_by:+.0f} % |"


def _notify_line(costs: Mapping[str, float], observed: Mapping[str, float]) -> str:
    """Commits that notify pass one after the other: what the limits below rest on."""
    what = f"commits of 16 connections a second that take {1000 * SLOW_SYNC_S:g} ms to sync, with NOTIFY"
    without = observed["commits of 16 connections a second, without NOTIFY"]
    measured = observed["commits of 16 connections a second, with NOTIFY"]
    return _check_line(f"{what} ({without:,.0f} without)", measured, 1 / (SLOW_SYNC_S + costs["commit_s"]))


def _limits_table(costs: Mapping[str, float]) -> list[str]:
    return [
        f"Pictures a second that one Postgres takes in the simulation, with {GPUS:,} workers, by its cores and by how"
        " long it takes to sync a commit:",
        "",
        "| cores | " + " | ".join(f"{1000 * seconds:g} ms" for seconds in COMMIT_S[:-1]) + " | no waiting for NOTIFY |",
        "|---|" + "---|" * len(COMMIT_S),
        *(
            f"| {cores} | " + " | ".join(f"{limit(costs, cores, seconds):,.0f}" for seconds in COMMIT_S) + " |"
            for cores in POSTGRES_CORES
        ),
        "",
    ]


def limit(costs: Mapping[str, float], cores: int, commit_s: float) -> float:
    """Pictures a second that come out at the end, if as many are sent as its slowest part can do."""
    rate, _ = steady(_large(costs, cores, commit_s), _bound(costs, cores, commit_s), SIMULATED_S)
    return rate


def _large(costs: Mapping[str, float], cores: int, commit_s: float) -> Deployment:
    """Everything but Postgres has machines enough. What idle workers cost makes everything in Postgres take longer."""
    idle = min(0.9, GPUS * costs["idle.postgres_s_per_worker_s"] / cores)
    slower = {name: value / (1 - idle) for name, value in costs.items() if name.endswith("postgres_s")}
    return Deployment(
        {**costs, **slower, "commit_s": commit_s},
        cores,
        all_on_one_machine=False,
        api_processes=200,
        workers=GPUS,
        couriers=200,
        pictures_at_once=GPU_AT_ONCE,
        draw_s=GPU_DRAW_S,
    )


def _bound(costs: Mapping[str, float], cores: int, commit_s: float) -> float:
    """The most that the slowest part can do, by arithmetic."""
    idle = min(0.9, GPUS * costs["idle.postgres_s_per_worker_s"] / cores)
    by_cpu = cores * (1 - idle) / (costs["submit.postgres_s"] + costs["draw.postgres_s"])
    by_commits = 1 / (commit_s * (1 + round(costs["draw.notifying_commits"])))
    return min(by_cpu, by_commits, GPUS * GPU_AT_ONCE / GPU_DRAW_S)


def _shards_table(costs: Mapping[str, float]) -> list[str]:
    rows = []
    for cores, commit_s in ((32, 0.001), (32, 0.0005), (32, 0.0001), (32, COMMIT_S[-1]), (64, COMMIT_S[-1])):
        sync = "no waiting for NOTIFY" if commit_s == COMMIT_S[-1] else f"{1000 * commit_s:g} ms"
        each = limit(costs, cores, commit_s)
        shards = -(-REQUESTS_PER_S // int(0.6 * each))
        connections = GPUS * costs["idle.connections_per_worker"] / shards
        wal = REQUESTS_PER_S * costs["draw.wal_bytes"] / shards / 1e6
        rows.append(
            f"| {cores} cores, {sync} | {each:,.0f} | {shards} | {GPUS // shards} | {connections:,.0f}"
            f" | {wal:.0f} MB/s |"
        )
    api = REQUESTS_PER_S * costs["submit.api_s"] / 0.6
    courier = REQUESTS_PER_S * costs["draw.courier_s"] / 0.6
    return [
        f"{REQUESTS_PER_S:,} requests a second on {GPUS:,} GPUs, each Postgres at 60 % of what it takes:",
        "",
        "| one Postgres | pictures a second | how many | GPUs each | workers' connections each | log of changes |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
        f"Beside them, each at 60 %: {api:.0f} API processes and {courier:.0f} couriers.",
        "",
    ]


def _number(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.0f}"


if __name__ == "__main__":
    main()
