"""Which part of a list of predictions is read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from storage.postgres.database import Row


@dataclass(frozen=True)
class Page:
    """Which part of a list: what is older than the position `before`, or what is just newer than `after`.

    A position is (created_at, id) of a prediction; at most one of the two is given.
    """

    limit: int
    before: tuple[datetime, str] | None = None
    after: tuple[datetime, str] | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None

    @property
    def order(self) -> str:
        return "ASC" if self.is_forward else "DESC"

    @property
    def is_forward(self) -> bool:
        """Whether it is read from the position on to what is newer."""
        return self.after is not None

    def in_order(self, rows: list[Row]) -> list[Row]:
        """Newest first, as lists are shown."""
        return rows[::-1] if self.is_forward else rows

    def bounds(self, id_column: str = "id") -> str:
        """The SQL condition for rows with `created_at` and that column."""
        conditions: list[str] = ["true"]
        if self.before is not None:
            conditions.append(f"(created_at, {id_column}) < (%(before_at)s, %(before_id)s)")
        if self.after is not None:
            conditions.append(f"(created_at, {id_column}) > (%(after_at)s, %(after_id)s)")
        if self.created_after is not None:
            conditions.append("created_at >= %(created_after)s")
        if self.created_before is not None:
            conditions.append("created_at < %(created_before)s")
        return " AND ".join(conditions)

    def values(self) -> dict[str, Any]:
        before_at, before_id = self.before or (None, None)
        after_at, after_id = self.after or (None, None)
        return {
            "limit": self.limit,
            "before_at": before_at,
            "before_id": before_id,
            "after_at": after_at,
            "after_id": after_id,
            "created_after": self.created_after,
            "created_before": self.created_before,
        }
