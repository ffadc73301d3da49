"""What a list of predictions may be narrowed to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from storage.predictions.states import PredictionStatus


@dataclass(frozen=True)
class Filters:
    """A prediction is listed if it meets all of them. None: any will do."""

    words: str | None = None  # of the prompt; all must be there, the last one may be the beginning of a word
    model: str | None = None  # owner/name
    statuses: frozenset[PredictionStatus] | None = None
    metadata: Mapping[str, Any] | None = None  # these pairs are among the prediction's
    keep: bool | None = None

    @property
    def are_none(self) -> bool:
        """Whether they let every prediction pass."""
        return (
            self.words is None
            and self.model is None
            and (self.statuses is None or self.statuses == set(PredictionStatus))
            and not self.metadata
            and self.keep is None
        )
