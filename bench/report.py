"""Putting what a benchmark found into docs/benchmarks.md, with the state of the machine that it ran on and charts."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path

import psutil

from bench.charts.sections import charts_of
from bench.charts.svg import svg

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
CHARTS = "charts"  # a folder beside the page
SECTION = re.compile(
    r"<!-- (?P<name>[\w-]+): written by bench\.[\w-]+ -->\n(?P<text>.*?)<!-- end of (?P=name) -->", re.S
)
# A line with nothing but a chart, and the empty line before it.
CHART_LINE = re.compile(rf"\n\n!\[[^\]]*\]\({CHARTS}/[^)]+\)")


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


def sections(page: str) -> dict[str, str]:
    """What stands between the marks of each section."""
    return {found["name"]: found["text"] for found in SECTION.finditer(page)}


def write_section(name: str, text: str, page: Path = PAGE) -> None:
    """Replace what stands between the marks of that section, and draw its charts.

    Raises ValueError where the page has no such marks.
    """
    begin, end = f"<!-- {name}: written by bench.{name} -->", f"<!-- end of {name} -->"
    head, found, rest = page.read_text().partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found or not found_end:
        raise ValueError(f"{page} has no place for {name}: {begin} … {end}")
    charts = charts_of_section(name, text)
    shown = "".join(f"\n\n![{title}]({CHARTS}/{file})" for file, (title, _) in charts.items())
    folder = page.parent / CHARTS
    folder.mkdir(exist_ok=True)
    for file, (_, drawn) in charts.items():
        (folder / file).write_text(drawn, encoding="utf-8")
    page.write_text(f"{head}{begin}\n{text}{shown}\n{end}{tail}")


def charts_of_section(name: str, text: str) -> dict[str, tuple[str, str]]:
    """By the name of the file: the title and the SVG."""
    return {f"{file}.svg": (bars.title, svg(bars)) for file, bars in charts_of(name, text).items()}


def redraw(page: Path = PAGE) -> None:
    """Draw all charts of the page from the tables that stand there."""
    for name, text in sections(page.read_text()).items():
        figures = CHART_LINE.sub("", text.removesuffix("\n"))
        if figures:
            write_section(name, figures, page)
