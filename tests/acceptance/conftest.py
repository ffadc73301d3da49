"""A folder for each run of the real command, which must leave no process behind."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.running_up import own_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with own_folder() as path:
        yield path
