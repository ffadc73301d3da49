"""The simulation behind docs/scaling.md: queues that can be reckoned by hand, and the rates that were measured."""

from __future__ import annotations

import json
import re

import pytest

from bench.scaling.__main__ import COSTS, PAGE, _check_table, limit
from bench.scaling.simulation import Deployment, backlog, closed_loop

FREE = dict.fromkeys(
    [
        *(f"{name}.{part}_s" for name in ("submit", "alone") for part in ("load", "api", "postgres")),
        *(f"draw.{part}_s" for part in ("worker", "postgres", "s3", "courier", "load")),
        "commit_s",
        "idle.postgres_s_per_worker_s",
    ],
    0.0,
) | {"draw.notifying_commits": 2.0}
SECONDS = 10.0


def one_machine(costs: dict[str, float], cores: int, **more: int | float) -> Deployment:
    return Deployment(FREE | costs, cores, True, **more)  # type: ignore[arg-type]


def test_commits_that_notify_pass_one_after_the_other_however_many_cores_there_are() -> None:
    costs = {"commit_s": 0.01}
    assert closed_loop(one_machine(costs, 64, api_processes=8), 16, SECONDS)[0] == pytest.approx(100, rel=0.01)


def test_one_api_process_uses_one_core_and_two_use_two() -> None:
    costs = {"submit.api_s": 0.01}
    assert closed_loop(one_machine(costs, 2), 16, SECONDS)[0] == pytest.approx(100, rel=0.01)
    assert closed_loop(one_machine(costs, 2, api_processes=2), 16, SECONDS)[0] == pytest.approx(200, rel=0.01)
    assert closed_loop(one_machine(costs, 1, api_processes=2), 16, SECONDS)[0] == pytest.approx(100, rel=0.01)


def test_a_worker_draws_as_many_pictures_at_once_as_it_has_places_for() -> None:
    assert backlog(one_machine({}, 2, workers=1, pictures_at_once=8, draw_s=0.5), 80) == pytest.approx(16)
    assert backlog(one_machine({}, 2, workers=2, pictures_at_once=8, draw_s=0.5), 80) == pytest.approx(32, rel=0.1)


def test_the_rates_that_were_measured_are_reproduced_within_20_percent() -> None:
    """From the costs that were kept: nothing is measured here."""
    lines = _check_table(json.loads(COSTS.read_text()))
    off_by = [int(found) for line in lines for found in re.findall(r"([+-]\d+) %", line)]
    assert len(off_by) == 8
    assert max(abs(percent) for percent in off_by) <= 20


def test_the_page_shows_what_the_kept_costs_say() -> None:
    known = json.loads(COSTS.read_text())
    page = PAGE.read_text()
    assert all(line in page for line in _check_table(known))
    assert limit(known["costs"], 8, 0.002) < limit(known["costs"], 8, 0.001)
