"""What the benchmarks' commands have in common: their help, their servers, and where their figures go."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bench.report import write_section

if TYPE_CHECKING:
    from tests.conftest import RunningServices


def command_line(explanation: str | None, *, writes: bool = True) -> argparse.ArgumentParser:
    """A parser whose help is the docstring of the benchmark, as it stands there."""
    options = argparse.ArgumentParser(description=explanation, formatter_class=argparse.RawDescriptionHelpFormatter)
    if writes:
        options.add_argument("--write", action="store_true", help="into docs/benchmarks.md")
    return options


@contextmanager
def own_servers() -> Iterator[RunningServices]:
    """A Postgres and an S3 server for this run alone."""
    from tests.conftest import Servers  # not for those benchmarks that need no server: they run where none is installed

    servers = Servers(waits_for_disk=True)
    try:
        yield servers.start()
    finally:
        servers.stop()


def publish(section: str, found: str, before: str, *, write: bool) -> None:
    """Show what was found and how the machine was before; both go into that section of the page if asked for."""
    text = f"{found}\n\n{before}"
    print(text)
    if write:
        write_section(section, text)
