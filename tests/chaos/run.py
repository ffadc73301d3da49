"""`make chaos`: several seeds, then worker kills alone, then docs/reliability.md. Exit code 1: something was lost."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from storage import logs
from tests.chaos.once import Result, run_once
from tests.chaos.report import HEAD, lines_of, recovery_lines
from tests.chaos.schedule import KILLS_ONLY, LONG, SHORT, Profile

REPORT = Path(__file__).parents[2] / "docs" / "reliability.md"
SEEDS = (1, 2, 3, 4, 5)
QUIET_SEED = 101
KILLED = "A killed worker, while everything else is well: until its work is claimed again"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--short", action="store_true", help="the form that `make test` runs, and no report")
    parser.add_argument("--report", type=Path, default=REPORT)
    parser.add_argument("--kills-only", action="store_true", help="only what a killed worker costs, on stdout")
    asked = parser.parse_args()
    logs.configure("chaos", level="ERROR")
    if asked.short:
        return int(any(_run(seed, SHORT).violations for seed in asked.seeds))
    if asked.kills_only:
        quiet = _run(QUIET_SEED, KILLS_ONLY)
        print("\n".join(recovery_lines(KILLED, [quiet])))
        return int(bool(quiet.violations))
    asked.report.parent.mkdir(exist_ok=True)
    quiet = _run(QUIET_SEED, KILLS_ONLY)
    results: list[Result] = []
    for seed in asked.seeds:
        results.append(_run(seed, LONG))
        asked.report.write_text(_report(results, quiet))  # so that an interrupted run has a report too
    print(f"Written: {asked.report}")
    return int(any(result.violations for result in [*results, quiet]))


def _report(results: list[Result], quiet: Result) -> str:
    took_s = sum(result.took_s for result in [*results, quiet])
    return "\n".join(
        [
            HEAD,
            *lines_of(results),
            *recovery_lines(KILLED, [quiet]),
            *recovery_lines("The same in the midst of all other faults (Postgres away, couriers dead, …)", results),
            f"Written {datetime.now(UTC):%Y-%m-%d} on {os.cpu_count()} cores ({platform.system()},"
            f" Python {platform.python_version()}) with a load average of {os.getloadavg()[1]:.0f},"
            f" in {took_s / 60:.0f} minutes.",
            "",
        ]
    )


def _run(seed: int, profile: Profile) -> Result:
    folder = Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.chmod(0o755)  # as root, Postgres runs as an account of its own
    result = run_once(folder, seed, profile)
    print(
        f"seed {seed}: {result.accepted} predictions, {result.faults.total()} faults,"
        f" {result.crash_points.total()} crash points, {len(result.violations)} violations,"
        f" settled in {result.settled_s:.0f} s, {result.took_s:.0f} s in all",
        flush=True,
    )
    for violation in result.violations:
        print(f"  {violation}", flush=True)
    if result.violations:
        print(f"  the logs are in {folder}", flush=True)
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return result


if __name__ == "__main__":
    sys.exit(main())
