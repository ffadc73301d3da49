"""What the benchmarks' commands have in common: their options, their servers, and where their figures go."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

from bench.report import charts_of_section, write_section

if TYPE_CHECKING:
    from tests.conftest import RunningServices

# The exit status of a benchmark that can't run on this machine (EX_UNAVAILABLE of sysexits.h).
LEFT_OUT = 69


class CommandLine(argparse.ArgumentParser):
    """A parser whose help is the docstring of the benchmark, with sizes that `--quick` makes small."""

    def __init__(self, explanation: str | None, *, writes: bool = True, quick: bool = True) -> None:
        """`quick`: False for those that have another word for small, such as another model."""
        super().__init__(description=explanation, formatter_class=argparse.RawDescriptionHelpFormatter)
        self._sizes: dict[str, tuple[Any, Any]] = {}
        if quick:
            about = "small, to see that it runs: its figures mean nothing"
            self.add_argument("--quick", action="store_true", help=about)
        if writes:
            self.add_argument("--write", action="store_true", help="into docs/benchmarks.md, with its charts")

    def size(self, option: str, normal: Any, *, quick: Any, explanation: str = "") -> None:
        """An option for a number, a text or a list of numbers, with the value that `--quick` gives it."""
        several = isinstance(normal, list)
        one = normal[0] if several else normal
        told = " ".join(filter(None, [explanation, f"({_told(normal)}; with --quick {_told(quick)})"]))
        action = self.add_argument(option, type=type(one), nargs="+" if several else None, help=told)
        self._sizes[action.dest] = (normal, quick)

    def read(self, words: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse the options. Options that don't fit together end the program with a message."""
        asked = self.parse_args(words)
        quick = getattr(asked, "quick", False)
        if quick and getattr(asked, "write", False):
            self.error("--quick measures nothing that can be published: leave out --quick or --write.")
        for name, (normal, small) in self._sizes.items():
            if getattr(asked, name) is None:
                setattr(asked, name, small if quick else normal)
        return asked


def leave_out(reason: str) -> NoReturn:
    """End this program: it needs what is not there. `python -m bench` goes on with the next one."""
    print(reason, file=sys.stderr)
    raise SystemExit(LEFT_OUT)


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
    charts_of_section(section, text)  # also with --quick: so that it is known that they can be drawn
    if write:
        write_section(section, text)


def _told(value: Any) -> str:
    return " ".join(str(each) for each in value) if isinstance(value, list) else str(value) or "all"
