"""Pages whose figures are written by commands, and whose explanations are written by people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def write_section(page: Path, command: str, lines: Sequence[str]) -> None:
    """Put `lines` between the marks of a command, and leave everything else on the page as it is.

    Raises ValueError where the marks don't stand there exactly once, in order: nothing is written then.
    """
    text = page.read_text()
    begin, end = f"<!-- written by {command} -->\n", f"<!-- end of what {command} writes -->\n"
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(begin) > text.index(end):
        raise ValueError(f"{page} has no place for what {command} writes: it needs the lines {begin!r} and {end!r}.")
    head, _, rest = text.partition(begin)
    _, _, tail = rest.partition(end)
    page.write_text(head + begin + "\n" + "\n".join(lines).strip("\n") + "\n\n" + end + tail)
