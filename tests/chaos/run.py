"""`make chaos`: several seeds, and its section of docs/reliability.md. Exit code 1: something was lost."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from storage import logs
from tests.chaos.kills import written_on
from tests.chaos.once import Result, run_once
from tests.chaos.report import failover_lines, lines_of, recovery_lines
from tests.chaos.schedule import LONG, SHORT, Profile
from tests.support.report_sections import write_section

COMMAND = "make chaos"
PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
SEEDS = (1, 2, 3, 4, 5)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--short", action="store_true", help="the form that `make test` runs, and no report")
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args()
    logs.configure("chaos", level="ERROR")
    if asked.short:
        return int(any(_run(seed, SHORT).violations for seed in asked.seeds))
    results: list[Result] = []
    for seed in asked.seeds:
        results.append(_run(seed, LONG))
        write_section(asked.page, COMMAND, _section(results))  # so that an interrupted run is on the page too
    print(f"Written: {asked.page}")
    return int(any(result.violations for result in results))


def _section(results: list[Result]) -> list[str]:
    took_s = sum(result.took_s for result in results)
    return [
        *lines_of(results),
        *recovery_lines(results),
        *failover_lines(results),
        f"{written_on()} It took {took_s / 60:.0f} minutes.",
    ]


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
