"""Reading the tables of a Markdown page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby


@dataclass(frozen=True)
class Table:
    """Cells are plain text: without the marks of Markdown."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def column(self, *names: str) -> int:
        """The place of the column with one of these names. Raises KeyError if there is none."""
        for place, name in enumerate(self.head):
            if name in names:
                return place
        raise KeyError(f"a table without a column {' or '.join(names)}: {', '.join(self.head)}")


def tables(markdown: str) -> Iterator[Table]:
    for is_table, lines in groupby(markdown.splitlines(), key=lambda line: line.startswith("|")):
        if is_table:
            head, _, *rows = [_cells(line) for line in lines]
            yield Table(head, tuple(rows))


def number(cell: str) -> float | None:
    """The number with which the cell begins; None if it begins with something else."""
    found = re.match(r"-?[\d,]*\.?\d+", cell)
    return float(found[0].replace(",", "")) if found else None


def _cells(line: str) -> tuple[str, ...]:
    return tuple(re.sub(r"[*`]", "", cell).strip() for cell in line.strip().strip("|").split("|"))
