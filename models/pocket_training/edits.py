"""Grades edits of drawn pictures: one thing in another colour, and a second thing painted beside the first.

They are drawn by Darkroom's own engine, since what a mask keeps is its promise.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image, ImageDraw

from storage.predictions.parameters import Parameters
from worker.engine.interface import Pictures
from worker.engine.zimage import ZImageEngine

from .captions import describe
from .drawings import SUPERSAMPLING, draw_scene, draw_shape
from .evaluation import ALL_PARTS, Prompt, Result
from .grading import Pixels, look
from .scenes import Scene, place_things, sample_scene
from .vocabulary import COLOURS

SIDE = 128


@dataclass(frozen=True)
class Edit:
    """A picture, the white of the mask to be redrawn (none: all of it), and what it is meant to become."""

    prompt: Prompt
    source: Pixels
    mask: Pixels | None = None


def recolourings(count: int, seed: int = 0) -> list[Edit]:
    """One thing that is there in another colour; the prompt says all of what it is meant to become."""
    rng = random.Random(f"recolour {seed}")
    edits = []
    for _ in range(count):
        wanted = sample_scene(rng, held_out=True, pair=False)
        thing = wanted.things[0]
        others = [colour for colour in COLOURS if colour not in (thing.colour, wanted.background)]
        present = replace(wanted, things=(replace(thing, colour=rng.choice(others)),))
        prompt = Prompt(describe(wanted, ALL_PARTS, rng), wanted)
        edits.append(Edit(prompt, draw_scene(present, SIDE, SIDE, rng)))
    return edits


def additions(count: int, seed: int = 0) -> list[Edit]:
    """A second thing in the empty half of a picture: that half is masked, and the prompt says both things."""
    rng = random.Random(f"add {seed}")
    edits = []
    for _ in range(count):
        wanted = sample_scene(rng, held_out=True, pair=True)
        prompt = Prompt(describe(wanted, ALL_PARTS, rng), wanted)
        edits.append(Edit(prompt, _first_thing_of(wanted, rng), _half_of_the_second(wanted)))
    return edits


def draw_edits(
    engine: ZImageEngine, edits: Sequence[Edit], strength: float, steps: int = 8, seed: int = 0
) -> list[Result]:
    """One picture an edit."""
    results = []
    for index, edit in enumerate(edits):
        asked = Parameters(
            prompt=edit.prompt.text,
            width=SIDE,
            height=SIDE,
            num_inference_steps=steps,
            guidance_scale=0.0,
            seed=seed + index,
            image="given",
            mask="given" if edit.mask is not None else "",
            strength=strength,
        )
        mask = None if edit.mask is None else Image.fromarray(edit.mask)
        drawing = engine.begin(asked, Pictures(Image.fromarray(edit.source), mask))
        while drawing.steps_done < drawing.steps:
            engine.step([drawing], lambda: None)
        pixels = np.asarray(engine.decode(drawing)()[0])
        results.append(Result(edit.prompt, pixels, look(pixels, edit.prompt.scene.place)))
    return results


def untouched(edits: Sequence[Edit], results: Sequence[Result]) -> float:
    """The share of pictures in which every pixel outside of the mask is the source's."""
    same = [
        edit.mask is not None and np.array_equal(result.pixels[edit.mask == 0], edit.source[edit.mask == 0])
        for edit, result in zip(edits, results, strict=True)
    ]
    return sum(same) / len(same)


def unedited(edits: Sequence[Edit]) -> list[Result]:
    """The control: the sources, graded as if they were the results."""
    return [Result(edit.prompt, edit.source, look(edit.source, edit.prompt.scene.place)) for edit in edits]


def open_engine(pipeline: object) -> ZImageEngine:
    return ZImageEngine(pipeline, device=torch.device("cpu"))


def _first_thing_of(scene: Scene, rng: random.Random) -> Pixels:
    """As `draw_scene` draws it, without the second thing."""
    scale = SUPERSAMPLING
    image = Image.new("RGB", (SIDE * scale, SIDE * scale), COLOURS[scene.background])
    thing, place = scene.things[0], place_things(scene, SIDE, SIDE, rng)[0]
    centre = (place.x * SIDE * scale, place.y * SIDE * scale)
    radius = place.radius * SIDE * scale
    colours = COLOURS[thing.colour], COLOURS[scene.background]
    draw_shape(ImageDraw.Draw(image), thing.shape, centre, radius, *colours)
    return np.asarray(image.reduce(scale))


def _half_of_the_second(scene: Scene) -> Pixels:
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
    half = SIDE // 2
    if scene.place == "left of":
        mask[:, half:] = 255
    elif scene.place == "right of":
        mask[:, :half] = 255
    elif scene.place == "above":
        mask[half:] = 255
    else:
        mask[:half] = 255
    return mask
