"""A scheduler with an engine that keeps its own time: what happens is decided by the test, to the step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from PIL import Image

from storage.predictions.claim import Claim
from storage.predictions.parameters import Parameters
from worker.attempts.attempt import Attempt
from worker.batching.admission import Admission
from worker.batching.scheduler import BatchScheduler
from worker.batching.step_costs import StepCosts
from worker.engine import Drawing, Memory, Pictures

TYPICAL = Parameters(prompt="", width=64, height=64, num_inference_steps=8, guidance_scale=0.0, seed=0)


@dataclass
class Play:
    """A drawing of the playing engine."""

    parameters: Parameters
    steps_done: int = 0
    sampler: str = ""
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        return self.parameters.num_inference_steps


@dataclass
class PlayingEngine:
    """A step takes `step_s(images)` of the engine's own time. `before_step` may raise what a device raises."""

    step_s: Callable[[int], float] = lambda images: 1.0
    joins_midway: bool = True
    takes: tuple[str, ...] = ("image", "mask")
    max_images = 1
    now: float = 0.0
    device: str = "playing"
    before_step: Callable[[list[Play]], None] = lambda plays: None
    before_begin: Callable[[Parameters], None] = lambda parameters: None
    before_decode: Callable[[Play], None] = lambda play: None
    batches: list[list[str]] = field(default_factory=list)  # the prompts of every step
    begun: list[str] = field(default_factory=list)
    before_wake: Callable[[], None] = lambda: None
    is_away: bool = False  # its weights

    def batch_key(self, parameters: Parameters) -> object:
        return None if self.joins_midway else parameters.num_inference_steps

    def begin(self, parameters: Parameters, pictures: Pictures | None = None) -> Play:
        assert not self.is_away
        assert bool(parameters.image) == (pictures is not None)
        self.before_begin(parameters)
        self.begun.append(parameters.prompt)
        return Play(parameters)

    def step(self, drawings: Sequence[Drawing], after_each: Callable[[], None]) -> None:
        plays = [drawing for drawing in drawings if isinstance(drawing, Play)]
        assert plays
        assert len(plays) == len(drawings)
        while True:
            self.before_step(plays)
            self.now += self.step_s(len(plays))
            self.batches.append([play.parameters.prompt for play in plays])
            for play in plays:
                play.steps_done += 1
            after_each()
            if self.joins_midway or plays[0].steps_done == plays[0].steps:
                return

    def decode(self, drawing: Drawing) -> Callable[[], list[Image.Image]]:
        assert isinstance(drawing, Play)
        assert drawing.steps_done == drawing.steps
        self.before_decode(drawing)
        return list

    def preview(self, drawing: Drawing) -> Callable[[], Image.Image] | None:
        return None

    def memory(self) -> Memory | None:
        return None

    def rest(self, goes_on: Callable[[], bool]) -> bool:
        assert not self.is_away
        self.is_away = goes_on()
        return self.is_away

    def wake(self) -> None:
        self.before_wake()
        self.is_away = False


@dataclass
class Heard:
    """Outcomes, in the order in which they were reported."""

    engine: PlayingEngine
    ends: list[tuple[str, str, str]] = field(default_factory=list)  # prompt, what became of it, why
    ended_at: dict[str, float] = field(default_factory=dict)
    steps: list[tuple[str, int]] = field(default_factory=list)

    def on_step(self, attempt: Attempt, preview: object) -> None:
        self.steps.append((attempt.parameters.prompt, attempt.steps_done))

    def on_drawn(self, attempt: Attempt, fetch_images: object) -> None:
        self._end(attempt, "drawn")

    def on_failed(self, attempt: Attempt, reason: str) -> None:
        self._end(attempt, "failed", reason)

    def on_lost(self, attempt: Attempt) -> None:
        self._end(attempt, "lost")

    def on_unfinished(self, attempt: Attempt) -> None:
        self._end(attempt, "unfinished")

    def of(self, outcome: str) -> list[str]:
        return [prompt for prompt, what, _ in self.ends if what == outcome]

    def _end(self, attempt: Attempt, outcome: str, reason: str = "") -> None:
        self.ends.append((attempt.parameters.prompt, outcome, reason))
        self.ended_at[attempt.parameters.prompt] = self.engine.now


class Scene:
    """A scheduler whose turns the test takes."""

    def __init__(self, engine: PlayingEngine | None = None, *, max_images: int = 8) -> None:
        self.engine = engine or PlayingEngine()
        self.heard = Heard(self.engine)
        self.admission = Admission(StepCosts(), max_images=max_images)
        self.scheduler = BatchScheduler(
            self.engine, self.admission, self.heard, typical=TYPICAL, clock=lambda: self.engine.now
        )
        self._offered = 0

    def add(self, prompt: str, **more: Any) -> Attempt:
        attempt = attempt_of(prompt, number=self._offered, **more)
        self._offered += 1
        self.scheduler.add(attempt)
        return attempt

    def play(self, turns: int | None = None) -> None:
        """Take so many turns, or all until nothing is left to do."""
        taken = 0
        while (turns is None or taken < turns) and self.scheduler.turn():
            taken += 1
            assert taken < 100_000


def attempt_of(
    prompt: str,
    *,
    number: int = 0,
    steps: int = 8,
    size: int = 64,
    priority: int = 0,
    crashes: int = 0,
    images: int = 1,
    image: str = "",
) -> Attempt:
    """An attempt at a prediction that is in no database; `number` is its age, 0 the oldest."""
    parameters = Parameters(
        prompt=prompt,
        width=size,
        height=size,
        num_inference_steps=steps,
        guidance_scale=0.0,
        seed=0,
        num_outputs=images,
        image=image,
    )
    prediction = {
        "id": f"{number:026d}",
        "attempt": 1,
        "crashes": crashes,
        "priority": priority,
        "start_tag": 0,
        "logs": "",
        "input": {},
        "parameters": parameters.to_json(),
    }
    return Attempt(Claim(prediction, uuid4()))


def free_sharing(images: int) -> float:
    """A device that four pictures don't fill: a step takes as long for all of them as for one."""
    return 1.0


def saturated(images: int) -> float:
    """A device that one picture fills."""
    return float(images)
