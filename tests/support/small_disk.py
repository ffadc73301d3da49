"""A disk that can be full without anybody else's being full."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

DISK_BYTES = 600 * 2**20  # SeaweedFS leaves the last 200 MiB alone


@contextmanager
def small_disk(folder: Path, *, size_bytes: int = DISK_BYTES) -> Iterator[Path]:
    """A file system in memory, which can be full without anybody else's being full."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes},mode=0755", "tmpfs", str(folder)]
    if sys.platform != "linux" or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small file system needs Linux and root's rights")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@contextmanager
def filled(disk: Path) -> Iterator[None]:
    """Until the block ends, there is not a byte of free space."""
    ballast = disk / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file:
            for block_bytes in (2**20, 4096):
                with suppress(OSError):
                    while True:
                        file.write(bytes(block_bytes))
        yield
    finally:
        ballast.unlink()
