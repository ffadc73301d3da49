"""Reads the weights into the page cache while torch is imported, so that disk and processor work at the same time.

`python -m bench.cold_load` measures how much time that saves.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil

AT_ONCE = 4  # files: one reader alone doesn't get the full speed of a network disk
PIECE = 8 << 20  # bytes
SHARE = 0.5  # of the free memory: the last files must not push the first ones out of the cache


@contextmanager
def reading_ahead(files: Sequence[Path]) -> Iterator[None]:
    """Read the files on other threads while the block runs. If memory is short, nothing is read.

    A file that can't be read is skipped here: the code that needs it reports the error.
    """
    sizes = [file.stat().st_size for file in files if file.is_file()]
    if sum(sizes) > SHARE * psutil.virtual_memory().available:
        yield
        return
    over = threading.Event()
    readers = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="read-ahead")
    try:
        for file in files:
            readers.submit(_read, file, over)
        yield
    finally:
        over.set()
        readers.shutdown(cancel_futures=True)


def is_cached(file: Path) -> bool:
    """Whether the middle of the file is in the page cache; False if the system can't say."""
    flag = getattr(os, "RWF_NOWAIT", None)  # Linux only
    if flag is None:
        return False
    with file.open("rb") as opened:
        try:
            return os.preadv(opened.fileno(), [bytearray(1)], file.stat().st_size // 2, flag) == 1
        except OSError:  # BlockingIOError: it would have to be read; or this file system doesn't tell
            return False


def _read(file: Path, over: threading.Event) -> None:
    if is_cached(file):
        return
    piece = bytearray(PIECE)
    with file.open("rb", buffering=0) as opened:
        while not over.is_set() and opened.readinto(piece):
            pass
