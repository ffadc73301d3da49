"""An engine without a model: plain sheets of a colour, for tests and benchmarks of everything around the model."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from storage import crash_points
from storage.catalog import Blank
from storage.parameters import Parameters
from worker.engine.interface import Drawing


@dataclass
class Sheet:
    """A drawing of the blank engine."""

    parameters: Parameters
    steps_done: int = 0

    @property
    def steps(self) -> int:
        return self.parameters.num_inference_steps


class BlankEngine:
    """Takes the times that the catalog says (`blank = { load_s = …, step_s = … }`), and no device."""

    def __init__(self, times: Blank) -> None:
        self._times = times

    device = "none (blank)"

    def load(self) -> None:
        time.sleep(self._times.load_s)

    def begin(self, parameters: Parameters) -> Sheet:
        return Sheet(parameters)

    def step(self, drawings: Sequence[Drawing]) -> None:
        time.sleep(self._times.step_s)
        crash_points.reach("mid-step")
        for drawing in drawings:
            assert isinstance(drawing, Sheet)
            drawing.steps_done += 1

    def finish(self, drawing: Drawing) -> list[Image.Image]:
        assert isinstance(drawing, Sheet)
        asked = drawing.parameters
        return [
            Image.new("RGB", (asked.width, asked.height), colour_of(asked.prompt, asked.seed_of(index)))
            for index in range(asked.num_outputs)
        ]


def colour_of(prompt: str, seed: int) -> tuple[int, int, int]:
    """The colour of a prompt's sheet: the same prompt and seed give the same one."""
    digest = hashlib.sha256(f"{prompt}\n{seed}".encode()).digest()
    return digest[0], digest[1], digest[2]
