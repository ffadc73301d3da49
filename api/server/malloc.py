"""Giving memory back to the system: what large requests take, glibc would keep for each thread."""

from __future__ import annotations

import ctypes
from contextlib import suppress

M_MMAP_THRESHOLD = -3  # of malloc.h
# Larger blocks are mapped by themselves, and unmapped when they are freed. Unless it is set, glibc raises this limit to
# the largest block that was freed so far (up to 32 MiB); then such blocks stay in the heap of the thread that asked.
LARGE_BYTES = 256 * 1024


def give_large_blocks_back() -> None:
    """To be called before the threads begin. Other C libraries than glibc have no such setting, and need none."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
