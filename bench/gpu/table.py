"""What a section has found: a table with the sentences that explain it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Table:
    """`rows` hold finished texts; `figures` the same as numbers, for programs."""

    title: str
    columns: Sequence[str]
    rows: list[list[str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def markdown(self) -> str:
        lines = [f"## {self.title}", ""]
        if self.rows:
            lines += [f"| {' | '.join(self.columns)} |", "|---" * len(self.columns) + "|"]
            lines += [f"| {' | '.join(row)} |" for row in self.rows]
            lines.append("")
        for note in self.notes:
            lines += [note, ""]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ms(seconds: float) -> str:
    """Milliseconds with three digits that count."""
    return f"{seconds * 1000:.3g}" if seconds < 1 else f"{seconds * 1000:.0f}"
