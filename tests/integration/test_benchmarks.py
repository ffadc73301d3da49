"""Benchmarks run to their end with `--quick`: those that cost little. `make bench-quick` runs all of them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from bench.__main__ import BY_NAME, MINUTES
from tests.conftest import REPOSITORY

# A benchmark, and words that its result has.
QUICK = {
    "claim_backlog": "behind 500 bells of another queue",
    "lists": "| no filter | 100 and more |",
    "streams": "14 of 14 endings arrived",
}


def run(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.timeout(600)
def test_quick_benchmarks_tell_what_they_found() -> None:
    done = run(*QUICK, "--quick")
    assert done.returncode == 0, done.stderr[-3000:]
    for name, words in QUICK.items():
        assert f"== bench.{name}\n" in done.stdout
        assert words in done.stdout, done.stdout
    assert "== 3 of 3 benchmarks ran to their end" in done.stdout


def test_figures_of_a_quick_run_are_never_published() -> None:
    page = (REPOSITORY / "docs" / "benchmarks.md").read_text()
    done = run("lists", "--quick", "--write")
    assert done.returncode == 1
    assert "--quick measures nothing that can be published" in done.stderr
    assert "failed: lists" in done.stdout
    assert (REPOSITORY / "docs" / "benchmarks.md").read_text() == page


def test_a_benchmark_whose_peer_is_missing_is_left_out_and_the_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")  # no redis-server, no Chromium
    done = run("submit", "page", "--quick")
    assert done.returncode == 0, done.stderr[-3000:]
    assert "redis-server is not installed here" in done.stderr
    assert "left out: submit, page" in done.stdout


def test_a_name_that_is_no_benchmark_is_refused() -> None:
    done = run("sbumit", "--quick")
    assert done.returncode == 2
    assert "No such benchmark: sbumit." in done.stderr


def test_every_benchmark_that_publishes_is_one_that_make_runs_and_has_a_place_on_the_page() -> None:
    page = (REPOSITORY / "docs" / "benchmarks.md").read_text()
    publishing = {file.stem for file in (REPOSITORY / "bench").glob("*.py") if 'publish("' in file.read_text()}
    assert publishing <= {*MINUTES, *BY_NAME}
    assert {name for name in publishing if f"<!-- {name}: written by bench.{name} -->" not in page} == set()
