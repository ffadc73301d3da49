"""One attempt at a prediction in this process, from its claim to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import cached_property

from storage.predictions.claim import Claim
from storage.predictions.parameters import Parameters
from storage.predictions.states import PredictionStatus
from worker.attempts.spans import AttemptSpans
from worker.cold_start import ColdStart
from worker.engine import Drawing, Pictures


class ClaimLost(Exception):
    """The claim is no longer ours: drop the work and write nothing."""


class MustLeave(Exception):
    """The worker's grace period is over before this prediction is published: hand it back."""


class Attempt:
    """A claimed prediction: what to draw, how far it is, and whether the claim is still ours.

    Three threads change it. The leases' thread and the notifications call `lose`; a thread that fetches inputs sets
    `pictures` or `failure`; everything about the drawing is changed by the drawing thread alone. The progress clock is
    a single float that any of them may set.
    """

    def __init__(self, claim: Claim, *, must_leave: Callable[[], bool] = lambda: False) -> None:
        self.claim = claim
        self._must_leave = must_leave
        self._lost = threading.Event()
        self._on_device = False
        self._progressed_at = time.monotonic()
        self.ended_as: PredictionStatus | None = None  # set when a notification said how the prediction ended
        self.pictures: Pictures | None = None  # what `parameters.image` and `mask` name, once it is fetched
        self.loras_are_there = False  # the files of `lora_urls`
        self.failure: str | None = None  # why it can't be drawn, for the client, known before it begins
        self.drawing: Drawing | None = None  # None before it begins, and again when it has to restart
        self.batch_size = 0  # the largest batch that it shared a step with, itself included
        self.gpu_s = 0.0  # what it took of the device, its share of steps that it shared with others
        self.image_steps = 0  # steps that were taken, times images; also those that a restart threw away
        self.delay_caused_by_s: dict[str, float] = {}  # prediction id → how long it made this one wait
        self.sampler = ""  # the name of the scheduler that it is drawn with, known from the first step on
        self.logs: str = claim.prediction["logs"]
        self.cold_start: ColdStart | None = None  # of this worker, if it is the first that it draws
        self.spans = AttemptSpans(claim.prediction, claim.attempt)

    # What was asked for.

    @property
    def id(self) -> str:
        return self.claim.prediction_id

    @property
    def names(self) -> dict[str, str | int]:
        """What a log line says about it."""
        return {"prediction_id": self.claim.prediction_id, "attempt": self.claim.attempt}

    @cached_property
    def parameters(self) -> Parameters:
        """Raises TypeError when another release wrote parameters that this one can't read."""
        return Parameters.from_json(self.claim.prediction["parameters"])

    @property
    def priority(self) -> int:
        priority: int = self.claim.prediction["priority"]
        return priority

    @property
    def order(self) -> tuple[int, int, str]:
        """Sorts as the queue does: by priority, by turn, then by age, since ids sort by time."""
        return -self.priority, self.claim.prediction["start_tag"], self.id

    @property
    def must_be_alone(self) -> bool:
        return self.claim.must_be_alone

    # The drawing.

    @property
    def is_ready(self) -> bool:
        """Whether it can begin: its pictures and the LoRAs that it names by URL are there, if it needs some."""
        if self.parameters.image and self.pictures is None:
            return False
        return self.loras_are_there or not self.lora_urls

    @property
    def lora_urls(self) -> list[str]:
        return [lora.name for lora in self.parameters.loras if "://" in lora.name]

    @property
    def steps(self) -> int:
        return self.drawing.steps if self.drawing is not None else self.parameters.num_inference_steps

    @property
    def steps_done(self) -> int:
        return self.drawing.steps_done if self.drawing is not None else 0

    @property
    def on_device(self) -> bool:
        """The device works on it right now. If the device hangs or is lost, this prediction may be the cause."""
        return self._on_device

    @on_device.setter
    def on_device(self, value: bool) -> None:
        self.progressed()
        self._on_device = value

    def progressed(self) -> None:
        """Restart the progress clock. While it runs longer than STALL_SECONDS, the lease is not renewed."""
        self._progressed_at = time.monotonic()

    def without_progress_s(self) -> float:
        return time.monotonic() - self._progressed_at

    # The claim.

    def lose(self, ended_as: PredictionStatus | None = None) -> None:
        """Mark the claim as lost. Pass `ended_as` when the prediction is known to be over."""
        self.ended_as = ended_as or self.ended_as
        self._lost.set()

    @property
    def is_lost(self) -> bool:
        return self._lost.is_set()

    def raise_if_lost(self) -> None:
        """Raise ClaimLost if a renewal or a notification said that the claim is lost."""
        if self.is_lost:
            raise ClaimLost(self.id)

    def raise_if_must_leave(self) -> None:
        """Raise MustLeave if the worker's grace period is over."""
        if self._must_leave():
            raise MustLeave
