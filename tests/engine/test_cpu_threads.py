"""How many threads torch uses on the CPU."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from worker.engine.loading import cpu_threads
from worker.engine.loading.cpu_threads import limit_threads, usable_cores


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 1), (16, 15)])
def test_one_core_is_left_to_others(monkeypatch: pytest.MonkeyPatch, cores: int, threads: int) -> None:
    monkeypatch.setattr(cpu_threads, "usable_cores", lambda: cores)
    limit_threads({})
    assert torch.get_num_threads() == threads


def test_the_number_that_the_operator_has_set_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_threads, "usable_cores", lambda: 16)
    torch.set_num_threads(3)
    limit_threads({"OMP_NUM_THREADS": "3"})
    assert torch.get_num_threads() == 3


def test_the_limit_of_a_container_counts(tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    unlimited = usable_cores(tmp_path / "missing")
    quota.write_text("max 100000\n")
    assert usable_cores(quota) == unlimited
    quota.write_text("50000 100000\n")
    assert usable_cores(quota) == 1
    quota.write_text(f"{100_000 * (unlimited + 8)} 100000\n")
    assert usable_cores(quota) == unlimited
