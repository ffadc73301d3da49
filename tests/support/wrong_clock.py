"""Processes whose clock is off, by Debian's libfaketime."""

from __future__ import annotations

import platform
from pathlib import Path

from tests.conftest import REPOSITORY

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None) if platform.system() == "Linux" else None
WITHOUT = "libfaketime isn't installed (Debian: apt-get install faketime)"

# Python sleeps until an absolute time of the monotonic clock, which libfaketime 0.9.10 refuses where it has to leave
# that clock alone. If it fakes that clock too, locks with a time limit never return.
SLEEP = """
import select, time
time.sleep = lambda seconds: select.select([], [], [], seconds)
"""


def clock_off_by(seconds: int, folder: Path) -> dict[str, str]:
    """What a Python process needs in its environment. Only the time of day is off, as it is on a wrong machine."""
    assert FAKETIME is not None
    (folder / "sitecustomize.py").write_text(SLEEP)
    return {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME": f"{seconds:+d}s",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
        "PYTHONPATH": f"{folder}:{REPOSITORY}",
    }
