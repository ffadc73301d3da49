"""Rows for people: columns by the widest, cut to the terminal; or JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click
from rich.console import Console
from rich.table import Table

# Some turn the direction of writing, so that a line reads as something else than it is (CVE-2021-42574).
BIDI = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
CONTROLS = dict.fromkeys((*range(32), *range(127, 160), *BIDI), " ")
# JSON's own escapes cover the rest; the value stays the same.
ESCAPES = {code: f"\\u{code:04x}" for code in (*range(127, 160), *BIDI)}


def echo_json(value: Any, *, indent: int | None = 2) -> None:
    """Times and ids of database rows are written as text."""
    click.echo(json.dumps(value, indent=indent, ensure_ascii=False, default=str).translate(ESCAPES))


def echo_table(columns: Sequence[str], rows: Sequence[Sequence[object]], *, stretch: str = "") -> None:
    """One line a row. In a pipe nothing is cut, and columns are separated by tabs.

    `stretch`: the column that is cut where the terminal is too narrow.
    """
    if not sys.stdout.isatty():
        for row in rows:
            click.echo("\t".join(plain(cell) for cell in row))
        return
    table = Table(box=None, pad_edge=False, show_edge=False)
    for place, column in enumerate(columns):
        widest = max(len(text) for text in (column, *(plain(row[place]) for row in rows)))
        width = None if column == stretch else widest
        table.add_column(column, no_wrap=True, overflow="ellipsis", min_width=width)
    for row in rows:
        table.add_row(*(plain(cell).replace("[", r"\[") for cell in row))
    Console().print(table)


def plain(cell: object) -> str:
    """Text without control characters: a prompt must not write escape sequences to the terminal."""
    return "" if cell is None else str(cell).translate(CONTROLS)
