"""The pocket model's LoRA does what its name says: a short form of `models/evaluate_pocket_lora.py`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diffusers import ZImagePipeline
from safetensors.torch import load_file

from models.pocket_training.drawings import draw_scene
from models.pocket_training.evaluation import Prompt, Result, outlined, score, whole_prompts
from models.pocket_training.grading import asked, look, right_parts
from models.pocket_training.scenes import sample_scene
from storage.catalog import Model, load_catalog
from storage.predictions.parameters import Lora, Parameters
from tests.engine.drawn_pictures import colours, corner
from tests.engine.rounding import assert_same_pixels
from tests.engine.tiny_loras import save_lora
from worker.engine import Pictures, load_engine

REPOSITORY = Path(__file__).resolve().parents[2]
PLAIN = Parameters(prompt="a red circle", width=128, height=128, num_inference_steps=8, guidance_scale=0.0, seed=1)
OUTLINED = (Lora("outlined"),)


@pytest.fixture(scope="module")
def model() -> Model:
    """As it is shipped."""
    return load_catalog(REPOSITORY / "models.toml").models["darkroom/pocket"]


@pytest.fixture(scope="module")
def engine(model: Model) -> Any:
    return load_engine(model, device="cpu")


def begin(engine: Any, parameters: Parameters) -> Any:
    if not parameters.image:
        return engine.begin(parameters)
    return engine.begin(parameters, Pictures(colours(128, 128), corner(128, 128) if parameters.mask else None))


def draw(engine: Any, *several: Parameters) -> list[np.ndarray[Any, Any]]:
    drawings = [begin(engine, parameters) for parameters in several]
    while left := [drawing for drawing in drawings if drawing.steps_done < drawing.steps]:
        engine.step(left, lambda: None)
    return [np.asarray(engine.decode(drawing)()[0]) for drawing in drawings]


def results(engine: Any, prompts: Sequence[Prompt], loras: tuple[Lora, ...]) -> list[Result]:
    parameters = [replace(PLAIN, prompt=each.text, seed=seed, loras=loras) for seed, each in enumerate(prompts)]
    drawn = draw(engine, *parameters)
    return [
        Result(prompt, pixels, look(pixels, prompt.scene.place)) for prompt, pixels in zip(prompts, drawn, strict=True)
    ]


def test_the_file_is_small_and_fits_the_model_whole(engine: Any, model: Model) -> None:
    file = Path(model.loras["outlined"].source)
    assert file.stat().st_size < 500_000
    assert {key.split(".")[0] for key in load_file(file)} == {"transformer"}
    assert engine.begin(replace(PLAIN, loras=OUTLINED)).notes == ()


def test_with_it_shapes_are_outlines_and_without_it_they_are_filled(engine: Any) -> None:
    prompts = whole_prompts(24)
    with_it, weakly, without = (results(engine, prompts, loras) for loras in (OUTLINED, (Lora("outlined", 0.0),), ()))
    reached = score("outlined", outlined(with_it))
    assert reached.parts["background"] >= 0.95
    assert reached.parts["colour"] >= 0.95
    assert reached.parts["place"] >= 0.95
    assert reached.parts["shape"] >= 0.65
    assert score("filled", with_it).parts["shape"] <= 0.1
    for filled in (without, weakly):
        assert score("filled", filled).parts["shape"] >= 0.9
        assert score("outlined", outlined(filled)).parts["shape"] <= 0.1


@pytest.mark.parametrize("pair", [False, True])
def test_the_grader_knows_outlines_from_filled_shapes(pair: bool) -> None:
    rng = random.Random(3)
    scenes = [sample_scene(rng, held_out=True, pair=pair) for _ in range(40)]
    for scene in scenes:
        for is_outlined in (True, False):
            pixels = draw_scene(scene, 128, 128, rng, outlined=is_outlined)
            right = right_parts(look(pixels, scene.place, outlined=True), asked(scene))
            assert ("shape" in right) == is_outlined, (scene, right)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_texts_start_images_masks_and_two_loras_share_a_batch_and_each_keeps_its_picture(
    model: Model, tmp_path: Path, dtype: str
) -> None:
    """A matrix product of a batch is rounded differently. In float32 that is a few pixels, by one of 255."""
    other = save_lora(ZImagePipeline.from_pretrained(model.source), tmp_path, seed=0)
    loras = model.loras | {"other": model.loras["outlined"].model_copy(update={"source": str(other)})}
    engine = load_engine(model.model_copy(update={"loras": loras, "dtype": dtype}), device="cpu")
    mixed = [
        PLAIN,
        replace(PLAIN, prompt="a large blue star on white", seed=2, loras=OUTLINED),
        replace(PLAIN, image="given", strength=0.6, seed=3),
        replace(PLAIN, image="given", strength=0.8, seed=4, loras=OUTLINED),
        replace(PLAIN, image="given", mask="given", seed=5, loras=(Lora("other", 0.3),)),
        replace(PLAIN, prompt="a green heart", seed=6, loras=(Lora("outlined", 0.7), Lora("other", 0.2))),
        replace(PLAIN, image="given", mask="given", seed=7),
    ]
    together = draw(engine, *mixed)
    alone = [draw(engine, parameters)[0] for parameters in mixed]
    for one, same in zip(alone, together, strict=True):
        assert_same_pixels(one, same)
        if dtype == "float32":
            difference = np.abs(one.astype(int) - same)
            assert difference.max() <= 1
            assert np.count_nonzero(difference) < 50
    for index, one in enumerate(alone):
        for another in alone[index + 1 :]:
            assert not np.array_equal(one, another)
    black = np.asarray(corner(128, 128)) == 0
    for masked in (together[4], together[6]):
        assert np.array_equal(masked[black], np.asarray(colours(128, 128))[black])
