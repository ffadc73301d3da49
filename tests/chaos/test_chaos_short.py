"""The short form of `make chaos`: one seed, about a minute; no pooler where PgBouncer isn't installed."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.chaos.once import run_once
from tests.chaos.schedule import LONG, SHORT, WEIGHTS, make_schedule


@pytest.mark.timeout(600)
def test_nothing_is_lost_while_everything_dies_in_turn() -> None:
    with TemporaryDirectory(prefix="chaos-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # as root, Postgres runs as an account of its own
        result = run_once(folder, seed=7, profile=SHORT)
        said = {log.name: log.read_text(errors="replace")[-3000:] for log in folder.glob("*.log")}
    assert result.violations == [], said
    assert result.accepted == SHORT.predictions
    assert result.faults.total() == SHORT.faults
    assert result.worker_deaths > 0
    assert set(SHORT.at_least) <= set(result.faults)
    assert result.failovers


def test_the_same_seed_gives_the_same_faults() -> None:
    assert make_schedule(3, LONG) == make_schedule(3, LONG)
    assert make_schedule(3, LONG) != make_schedule(4, LONG)


def test_a_long_run_has_every_kind_of_fault() -> None:
    seen = {fault.kind for seed in range(1, 6) for fault in make_schedule(seed, LONG)}
    assert seen == set(WEIGHTS)


def test_a_short_run_has_what_happens_to_postgres_whatever_the_seed() -> None:
    for seed in range(1, 6):
        kinds = [fault.kind for fault in make_schedule(seed, SHORT)]
        assert len(kinds) == SHORT.faults
        assert set(SHORT.at_least) <= set(kinds)
        assert max(fault.lasts_s for fault in make_schedule(seed, SHORT)) <= SHORT.lasts_at_most_s
