"""The log file of an embedded server."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

LARGEST_BYTES = 10_000_000


def open_log(log: Path) -> BinaryIO:
    """To append to, readable for its owner only. Earlier runs' lines are put aside, once, when there are many."""
    old = log.with_suffix(".old.log")
    if log.exists() and log.stat().st_size > LARGEST_BYTES:
        log.replace(old)
    for path in (log, old):  # an earlier release made them readable for all
        if path.exists():
            path.chmod(0o600)
    return open(os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")


def last_lines(log: Path, count: int = 3) -> str:
    """The end of a server's log in one line, for a message."""
    try:
        lines = log.read_bytes()[-4000:].decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return " / ".join(line.strip() for line in lines[-count:])


def lines_since(log: Path, begins_at: int) -> list[str]:
    """What was logged from that byte on; nothing if the log can't be read."""
    try:
        with log.open("rb") as file:
            file.seek(begins_at)
            return file.read().decode(errors="replace").splitlines()
    except OSError:
        return []


def says_disk_full(log: Path) -> bool:
    return "no space left on device" in last_lines(log, 20).lower()
