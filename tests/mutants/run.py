"""`make mutants`: break a copy of the tree in six ways, one at a time, and see that tests fail. Exit code 1: one lives.

What caught which goes into docs/reliability.md, where all six were tried. The same tests run on an unbroken copy first,
since a test that fails anyway catches nothing.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.kills import written_on
from tests.mutants.breakages import BREAKAGES, Breakage, Edit
from tests.support.report_sections import write_section

COMMAND = "make mutants"
REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "reliability.md"
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", ".darkroom", "__pycache__", ".*_cache", "*.egg-info", ".training")
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", type=int, nargs="+", help="numbers of breakages, from 1")
    parser.add_argument("--chaos", action="store_true", help="let the short chaos run look at each one too")
    parser.add_argument("--page", type=Path, default=PAGE)
    asked = parser.parse_args()
    began = time.monotonic()
    chosen = [BREAKAGES[number - 1] for number in asked.only] if asked.only else list(BREAKAGES)
    tests = sorted({test for breakage in chosen for test in breakage.tests})
    failed = failures_of(None, tests)
    if failed:
        print(f"These fail on the unbroken tree: {', '.join(failed)}")
        return 2
    print(f"Unbroken: {len(tests)} groups of tests pass.", flush=True)
    lives = 0
    rows = []
    for breakage in chosen:
        caught_by = failures_of(breakage, list(breakage.tests), chaos=asked.chaos)
        lives += not caught_by
        print(
            f"{breakage.name}: " + ("NOT CAUGHT" if not caught_by else "caught by " + ", ".join(caught_by)), flush=True
        )
        rows.append(f"| {breakage.name} | {', '.join(f'`{name}`' for name in caught_by) or '**nothing**'} |")
    verdict = f"{len(chosen) - lives} of {len(chosen)} breakages were caught."
    print(verdict)
    if not asked.only:
        took = f"It took {(time.monotonic() - began) / 60:.0f} minutes."
        table = ["| what was broken | what failed (the run stops at the first) |", "|---|---|", *rows]
        write_section(asked.page, COMMAND, [*table, "", verdict, "", f"{written_on()} {took}"])
    return int(lives > 0)


def failures_of(breakage: Breakage | None, tests: list[str], *, chaos: bool = False) -> list[str]:
    """What fails in a copy of the tree, broken so: names of tests, and of the checks of a chaos run."""
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        copy = Path(folder) / "tree"
        shutil.copytree(REPOSITORY, copy, ignore=NOT_COPIED)
        for edit in breakage.edits if breakage else ():
            apply(copy, edit)
        env = os.environ | {"PYTHONPATH": str(copy)}
        run = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "-rfE", "--timeout=600", "-p", "no:randomly", *tests],
            cwd=copy,
            env=env,
            capture_output=True,
            text=True,
            check=False,
        )
        failed = [name.rpartition("::")[2] for name in FAILED.findall(run.stdout)]
        if run.returncode not in (0, 1) or (run.returncode == 1 and not failed):
            raise RuntimeError(f"pytest could not run the tests:\n{run.stdout[-3000:]}\n{run.stderr[-3000:]}")
        if chaos:
            said = subprocess.run(
                [sys.executable, "-m", "tests.chaos.run", "--short", "--seeds", "7"],
                cwd=copy,
                env=env,
                capture_output=True,
                text=True,
                check=False,
            ).stdout
            failed += sorted({f"chaos: {name}" for name in re.findall(r"^  (\w+): ", said, re.MULTILINE)})
        return failed


def apply(tree: Path, edit: Edit) -> None:
    """Raises RuntimeError where the text that is to be broken is not there exactly once: the code has moved on."""
    path = tree / edit.path
    text = path.read_text()
    if text.count(edit.old) != 1:
        raise RuntimeError(f"{edit.path} has {text.count(edit.old)} times, not once:\n{edit.old}")
    path.write_text(text.replace(edit.old, edit.new))


if __name__ == "__main__":
    sys.exit(main())
