"""An engine without a model: it draws one colour, for tests and benchmarks of everything around the model."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from PIL import Image

from storage import crash_points
from storage.catalog import MOST_INPUT_IMAGES, Blank
from storage.predictions.parameters import Parameters
from worker.engine.input_images.pictures import fit, keeping_the_rest
from worker.engine.interface import Drawing, Memory, Pictures


@dataclass
class Sheet:
    """A drawing of the blank engine."""

    parameters: Parameters
    pictures: Pictures | None = None  # of the size that is drawn
    steps_done: int = 0
    sampler: str = ""
    notes: tuple[str, ...] = ()

    @property
    def steps(self) -> int:
        return self.parameters.num_inference_steps


class BlankEngine:
    """Takes as long as the catalog says (`blank = { load_s = …, step_s = … }`) and uses no device."""

    def __init__(self, times: Blank) -> None:
        """Sleeps for `load_s`."""
        time.sleep(times.load_s)
        self._times = times

    device = "none (blank)"
    joins_midway = True
    takes = ("image", "mask")
    max_images = MOST_INPUT_IMAGES

    def batch_key(self, parameters: Parameters) -> object:
        return None  # any requests can share a batch

    def begin(self, parameters: Parameters, pictures: Pictures | None = None) -> Sheet:
        if pictures is None:
            return Sheet(parameters)
        return Sheet(parameters, fit(pictures, parameters.width, parameters.height))

    def step(self, drawings: Sequence[Drawing], after_each: Callable[[], None]) -> None:
        time.sleep(self._times.step_s)
        crash_points.reach("mid-step")
        for drawing in drawings:
            assert isinstance(drawing, Sheet)
            drawing.steps_done += 1
        after_each()

    def decode(self, drawing: Drawing) -> Callable[[], list[Image.Image]]:
        assert isinstance(drawing, Sheet)
        return partial(keeping_the_rest, partial(sheets_of, drawing.parameters, drawing.pictures), drawing.pictures)

    def preview(self, drawing: Drawing) -> Callable[[], Image.Image] | None:
        assert isinstance(drawing, Sheet)
        asked = drawing.parameters
        size = (max(1, asked.width // 8), max(1, asked.height // 8))
        return partial(Image.new, "RGB", size, colour_of(asked.prompt, asked.seed))

    def memory(self) -> Memory | None:
        return None

    def rest(self, goes_on: Callable[[], bool]) -> bool:
        return goes_on()

    def wake(self) -> None:
        pass


def sheets_of(asked: Parameters, pictures: Pictures | None = None) -> list[Image.Image]:
    """The images of a request: a start image is tinted, the more the higher `strength` is."""
    sheets = [
        Image.new("RGB", (asked.width, asked.height), colour_of(asked.prompt, asked.seed_of(index)))
        for index in range(asked.num_outputs)
    ]
    if pictures is None:
        return sheets
    return [Image.blend(pictures.image, sheet, asked.strength) for sheet in sheets]


def colour_of(prompt: str, seed: int) -> tuple[int, int, int]:
    """The colour for a prompt and a seed; it is always the same."""
    digest = hashlib.sha256(f"{prompt}\n{seed}".encode()).digest()
    return digest[0], digest[1], digest[2]
