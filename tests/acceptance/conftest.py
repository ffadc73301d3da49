"""A folder for each run of the real command, which must leave no process behind."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.running_up import processes_of


@pytest.fixture
def folder() -> Iterator[Path]:
    """Not pytest's tmp_path: each new run of pytest takes others' access to those away, and root's Postgres is one."""
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as name:
        path = Path(name).resolve()
        yield path
        assert processes_of(path) == [], "a process was left behind"
