"""Benchmarks that need no other program run to their end, on a small scale: their figures mean nothing here."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

# The benchmark with small numbers, and words that its result has.
QUICK = {
    "bench.idle_share --backlog 3 --upload-s 0.1": "3 of 3 drawn",
    "bench.growth --finished 300 --queued 20 --tokens 5 --rounds 2": "| pickup |",
    "bench.overhead --rounds 2": "*what Darkroom adds",
}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("words", QUICK)
def test_a_benchmark_runs_and_tells_what_it_found(words: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *words.split()],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert QUICK[words] in done.stdout, done.stdout
