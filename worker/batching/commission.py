"""A prediction in the scheduler, from its claim to its end."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from storage.predictions.claim import Claim
from storage.predictions.parameters import Parameters
from worker.engine import Drawing
from worker.leases import HeldClaim


@dataclass(eq=False)
class Commission:
    """What is to be drawn for whom, and how far it is. Only the drawing thread changes it."""

    held: HeldClaim
    parameters: Parameters
    drawing: Drawing | None = None  # from its beginning on; None again where it has to begin anew
    batch_size: int = 0  # the most drawings that were in a step with it, itself included
    taken_in_at: float = field(default_factory=time.monotonic)
    delay_caused_by_s: dict[str, float] = field(default_factory=dict)  # by which drawing, for how long

    @property
    def claim(self) -> Claim:
        return self.held.claim

    @property
    def id(self) -> str:
        return self.claim.prediction_id

    @property
    def priority(self) -> int:
        priority: int = self.claim.prediction["priority"]
        return priority

    @property
    def order(self) -> tuple[int, str]:
        """Priority, then age: the ids sort by time."""
        return -self.priority, self.id

    @property
    def must_be_alone(self) -> bool:
        return self.claim.must_be_alone

    @property
    def steps(self) -> int:
        return self.drawing.steps if self.drawing is not None else self.parameters.num_inference_steps

    @property
    def steps_done(self) -> int:
        return self.drawing.steps_done if self.drawing is not None else 0
