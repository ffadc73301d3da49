"""What the long form writes into docs/reliability.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tests.chaos.invariants import CHECKS
from tests.chaos.once import Result
from tests.chaos.recovery import percentile
from tests.support.pooler import PGBOUNCER


def lines_of(results: Sequence[Result]) -> list[str]:
    """The chaos runs: load, faults, what came of them."""
    faults = _total(result.faults for result in results)
    points = _total(result.crash_points for result in results)
    misbehaved = _total(result.misbehaved for result in results)
    ended = _total(result.ended for result in results)
    violations = [violation for result in results for violation in result.violations]
    deaths = sum(result.worker_deaths for result in results)
    again = sum(result.begun_again for result in results)
    lines = [
        "| | |",
        "|---|---|",
        f"| seeds | {', '.join(str(result.seed) for result in results)} |",
        f"| predictions accepted | {sum(result.accepted for result in results):,} |",
        f"| scheduled faults | {faults.total():,} |",
        f"| crash points reached besides | {points.total()} |",
        f"| POSTs to receivers | {sum(result.webhooks for result in results):,},"
        f" of which {misbehaved.total()} were not taken |",
        f"| POSTs that were not accepted, so sent again | {_counts(_total(result.refused for result in results))} |",
        f"| workers killed | {deaths} |",
        f"| drawings begun again | {again} ({again / max(deaths, 1):.2f} for each killed worker; freezes, cuts and"
        " hand-backs included) |",
        f"| from the last fault to everything settled, at most | {max(result.settled_s for result in results):.0f} s |",
        f"| **violations** | **{len(violations)}** |",
        "",
        "How they ended: " + _counts(ended) + ".",
        "",
        "| fault | times |",
        "|---|---|",
        *(f"| {kind} | {count} |" for kind, count in faults.most_common()),
        *(["| pooler killed | not tried: PgBouncer isn't installed |"] if PGBOUNCER is None else []),
        *(f"| crash point reached: {point} | {count} |" for point, count in points.most_common()),
        *(f"| receiver: {manner} | {count} |" for manner, count in misbehaved.most_common()),
        "",
        "Checked after each run:",
        "",
        *(f"- {check.__name__.replace('_', ' ')}" for check in CHECKS),
        "",
    ]
    if violations:
        lines += ["Violations:", "", *(f"- {violation}" for violation in violations), ""]
    return lines


def recovery_lines(results: Sequence[Result]) -> list[str]:
    """From a worker's death to the next claim of what it held, while everything else breaks too."""
    found = [recovery for result in results for recovery in result.recoveries]
    rows = []
    for name, supervised in (("by leases alone", False), ("seen by a supervisor, as under `darkroom up`", True)):
        seconds = [each.seconds for each in found if each.supervised is supervised and each.seconds is not None]
        if seconds:
            shown = " | ".join(f"{value:.2f} s" for value in (percentile(seconds, 0.5), percentile(seconds, 0.99)))
            rows.append(f"| {name} | {len(seconds)} | {shown} | {max(seconds):.2f} s |")
    head = "| a killed worker's work is claimed again, amid all other faults | claims | p50 | p99 | max |"
    return [head, "|---|---|---|---|---|", *rows, ""]


def failover_lines(results: Sequence[Result]) -> list[str]:
    """From the promotion of a standby to when clients notice that the service goes on."""
    found = [failover for result in results for failover in result.failovers]
    rows = []
    for name, seconds in (
        ("the next POST is accepted", [each.accepted_s for each in found if each.accepted_s is not None]),
        ("the next picture is published", [each.picture_s for each in found if each.picture_s is not None]),
    ):
        if seconds:
            shown = " | ".join(f"{value:.2f} s" for value in (percentile(seconds, 0.5), percentile(seconds, 0.99)))
            rows.append(f"| {name} | {len(seconds)} | {shown} | {max(seconds):.2f} s |")
    head = "| from the promotion of a standby, amid all other faults, until | promotions | p50 | p99 | max |"
    return [head, "|---|---|---|---|---|", *rows, ""]


def _total(counters: Iterable[Counter[str]]) -> Counter[str]:
    total: Counter[str] = Counter()
    for counter in counters:
        total += counter
    return total


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counter.most_common())
