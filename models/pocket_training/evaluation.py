"""Draws held-out prompts with the exported pipeline and grades the pictures."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import Any

import numpy as np
import torch
from diffusers import ZImagePipeline

from .captions import describe
from .grading import PARTS, Attributes, Pixels, asked, look, right_parts
from .scenes import Scene, sample_scene

BATCH = 16
ALL_PARTS = frozenset(PARTS)
Advance = Callable[[int], Any]


@dataclass(frozen=True)
class Prompt:
    """`graded` are the parts that the text mentions."""

    text: str
    scene: Scene
    graded: frozenset[str] = ALL_PARTS
    width: int = 128
    height: int = 128


@dataclass(frozen=True)
class Result:
    prompt: Prompt
    pixels: Pixels
    found: Attributes

    def right(self) -> set[str]:
        return right_parts(self.found, asked(self.prompt.scene)) & self.prompt.graded

    def all_right(self) -> bool:
        return self.right() == self.prompt.graded


@dataclass(frozen=True)
class Score:
    """Shares of right answers, 0 to 1; a part that no prompt mentions has none."""

    name: str
    count: int
    parts: dict[str, float] = field(default_factory=dict)
    all_right: float = 0.0


def whole_prompts(count: int, seed: int = 0, width: int = 128, height: int = 128) -> list[Prompt]:
    """One object, everything said."""
    rng = random.Random(f"whole {seed}")
    scenes = [sample_scene(rng, held_out=True, pair=False) for _ in range(count)]
    return [Prompt(describe(scene, ALL_PARTS, rng), scene, ALL_PARTS, width, height) for scene in scenes]


def pair_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Two objects and how they stand to each other; every other prompt says sizes as well."""
    rng = random.Random(f"pair {seed}")
    prompts = []
    for index in range(count):
        scene = sample_scene(rng, held_out=True, pair=True)
        said = ALL_PARTS if index % 2 else ALL_PARTS - {"size"}
        prompts.append(Prompt(describe(scene, said, rng), scene, said))
    return prompts


def partial_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """One object, one to three parts left out; only what is said is graded."""
    rng = random.Random(f"partial {seed}")
    prompts = []
    for index in range(count):
        scene = sample_scene(rng, held_out=True, pair=False)
        said = ALL_PARTS - set(rng.sample(PARTS, 1 + index % 3))
        prompts.append(Prompt(describe(scene, said, rng), scene, said))
    return prompts


def short_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """As people write: size, position and background left out, in all combinations, and meant to be the usual ones."""
    rng = random.Random(f"short {seed}")
    ways = [frozenset(parts) for n in (1, 2, 3) for parts in combinations(("background", "place", "size"), n)]
    prompts: list[Prompt] = []
    while len(prompts) < count:
        scene, left_out = sample_scene(rng, held_out=True, pair=False), ways[len(prompts) % len(ways)]
        thing = scene.things[0]
        if "size" in left_out:
            thing = replace(thing, size="medium")
        background = "white" if "background" in left_out else scene.background
        place = "centre" if "place" in left_out else scene.place
        scene = Scene(background, (thing,), place)
        if scene.held_out() and left_out <= scene.usual_parts():
            prompts.append(Prompt(describe(scene, ALL_PARTS - left_out, rng), scene))
    return prompts


def reworded_prompts(prompts: Sequence[Prompt], seed: int = 0) -> list[Prompt]:
    """The same scenes in other words."""
    rng = random.Random(f"reworded {seed}")
    return [Prompt(describe(each.scene, each.graded, rng), each.scene, each.graded) for each in prompts]


def prompts_with_unknown_words(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The same prompts as people write them."""
    return [Prompt(f"a gorgeous {each.text}, trending, 8k masterpiece", each.scene, each.graded) for each in prompts]


def draw_all(
    pipeline: ZImagePipeline, prompts: Sequence[Prompt], steps: int = 8, seed: int = 0, advance: Advance | None = None
) -> list[Result]:
    """One picture a prompt. The noise depends on the seed and the place in the list only."""
    results = []
    for start in range(0, len(prompts), BATCH):
        some = prompts[start : start + BATCH]
        generators = [torch.Generator().manual_seed(seed + start + index) for index in range(len(some))]
        pictures = pipeline(
            [prompt.text for prompt in some],
            width=some[0].width,
            height=some[0].height,
            num_inference_steps=steps,
            guidance_scale=0.0,
            generator=generators,
        ).images
        for prompt, picture in zip(some, pictures, strict=True):
            pixels = np.asarray(picture)
            results.append(Result(prompt, pixels, look(pixels, prompt.scene.place)))
        if advance is not None:
            advance(len(some))
    return results


def outlined(results: Sequence[Result]) -> list[Result]:
    """The same pictures, graded as if the prompts had asked for outlines."""
    return [replace(result, found=look(result.pixels, result.prompt.scene.place, outlined=True)) for result in results]


def score(name: str, results: Sequence[Result]) -> Score:
    parts = {}
    for part in PARTS:
        graded = [part in result.right() for result in results if part in result.prompt.graded]
        if graded:
            parts[part] = sum(graded) / len(graded)
    return Score(name, len(results), parts, sum(result.all_right() for result in results) / len(results))


def shifted_score(results: Sequence[Result]) -> Score:
    """The control: each picture graded against the next prompt. A grader that says yes to all shows here."""
    wanted = [asked(result.prompt.scene) for result in results]
    return _against("control: next prompt", [(result.found, wanted[i - 1]) for i, result in enumerate(results)])


def chance_score(results: Sequence[Result]) -> Score:
    """The same for every other prompt: what the control would be with endless prompts."""
    wanted = [asked(result.prompt.scene) for result in results]
    others = [(mine.found, other) for i, mine in enumerate(results) for j, other in enumerate(wanted) if i != j]
    return _against("control: chance", others)


def agreement(first: Sequence[Result], second: Sequence[Result]) -> float:
    """Share of pictures in which the same is seen, part by part, right or wrong."""
    same = [len(right_parts(a.found, b.found)) / len(PARTS) for a, b in zip(first, second, strict=True)]
    return sum(same) / len(same)


def _against(name: str, pairs: list[tuple[Attributes, Attributes]]) -> Score:
    right = [right_parts(found, wanted) for found, wanted in pairs]
    parts = {part: sum(part in each for each in right) / len(right) for part in PARTS}
    return Score(name, len(pairs), parts, sum(len(each) == len(PARTS) for each in right) / len(right))
