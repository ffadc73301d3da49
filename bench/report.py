"""Putting what a benchmark found into docs/benchmarks.md, with the state of the machine that it ran on."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import psutil

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"


def machine() -> str:
    """Where and when, and how busy the machine was with other things before."""
    model = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        named = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
        model = named.group(1) if named else model
    return (
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {os.cpu_count()} × {model}, "
        f"{psutil.virtual_memory().total / 2**30:.0f} GiB, Python {platform.python_version()}, "
        f"load before: {os.getloadavg()[0]:.2f}."
    )


def write_section(name: str, text: str) -> None:
    """Replace what stands between the marks of that section. Raises ValueError where the page has no such marks."""
    begin, end = f"<!-- {name}: written by bench.{name} -->", f"<!-- end of {name} -->"
    page = PAGE.read_text()
    head, found, rest = page.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"{PAGE} has no place for {name}: {begin} … {end}")
    PAGE.write_text(f"{head}{begin}\n{text}\n{end}{tail}")
