"""Weights are read ahead while the caller is busy, and never where that could do harm."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from worker.engine.loading.read_ahead import is_cached, reading_ahead

SIZE = 32 << 20
PATIENCE_S = 20.0


@pytest.fixture
def evicted(tmp_path: Path) -> Path:
    """A file whose pages are not in memory."""
    file = tmp_path / "weights.safetensors"
    with file.open("wb") as opened:
        opened.write(os.urandom(SIZE))
        opened.flush()
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    if is_cached(file):
        pytest.skip("this file system keeps all of its files in memory")
    return file


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("read-ahead")]


def test_files_lie_in_memory_when_they_are_needed(evicted: Path, tmp_path: Path) -> None:
    give_up_at = time.monotonic() + PATIENCE_S
    with reading_ahead([tmp_path / "not-there", evicted]):
        while not is_cached(evicted) and time.monotonic() < give_up_at:
            time.sleep(0.01)
    assert is_cached(evicted)
    assert readers() == []


def test_nothing_is_read_where_memory_is_too_small(evicted: Path) -> None:
    os.truncate(evicted, psutil.virtual_memory().total)  # a file of holes behind what was written
    with reading_ahead([evicted]):
        assert readers() == []


def test_reading_ends_with_the_block_also_where_that_fails(evicted: Path) -> None:
    def fail() -> None:
        with reading_ahead([evicted] * 50):
            assert readers()
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert readers() == []
