"""Other families from a start image and a mask: through diffusers' pipelines, made from the parts that are loaded."""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForImage2Image, AutoPipelineForInpainting

from storage.predictions.parameters import Parameters
from tests.engine.drawn_pictures import colours, corner
from tests.engine.tiny_pipelines import tiny_flux, tiny_sdxl, tiny_stable_diffusion
from worker.engine import DrawingFailed, Pictures
from worker.engine.pipeline import PipelineDrawing, PipelineEngine

# diffusers' Euler scheduler and numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FROM_IMAGE = Parameters(
    prompt="a red circle", width=64, height=64, num_inference_steps=6, guidance_scale=3.0, seed=5,
    image="of the test", strength=0.5,
)  # fmt: skip
INPAINTED = replace(FROM_IMAGE, mask="of the test", strength=1.0)
MAKERS = {"stable-diffusion": tiny_stable_diffusion, "sdxl": tiny_sdxl, "flux": tiny_flux}
START, MASK = colours(), corner()


@pytest.fixture(scope="module", params=MAKERS)
def engine(request: pytest.FixtureRequest) -> PipelineEngine:
    return PipelineEngine(MAKERS[request.param](), device=torch.device("cpu"))


def begin(engine: PipelineEngine, asked: Parameters) -> PipelineDrawing:
    return engine.begin(asked, Pictures(START, MASK if asked.mask else None) if asked.image else None)


def draw(engine: PipelineEngine, *several: Parameters) -> list[list[np.ndarray[Any, Any]]]:
    drawings = [begin(engine, asked) for asked in several]
    engine.step(drawings, lambda: None)
    return [[np.asarray(image, dtype=int) for image in engine.decode(drawing)()] for drawing in drawings]


def test_it_takes_both_pictures_and_copies_no_weights(engine: PipelineEngine) -> None:
    assert set(engine.takes) == {"image", "mask"}
    for kind in engine.takes:
        made = engine._pipeline_for(kind)
        assert made is not engine._pipeline
        assert made.vae is engine._pipeline.vae
        assert made.text_encoder is engine._pipeline.text_encoder


@pytest.mark.parametrize(
    "asked", [FROM_IMAGE, INPAINTED, replace(INPAINTED, strength=0.5)], ids=["image", "mask", "both"]
)
def test_it_draws_what_diffusers_own_pipeline_draws(engine: PipelineEngine, asked: Parameters) -> None:
    automatic = AutoPipelineForInpainting if asked.mask else AutoPipelineForImage2Image
    theirs = automatic.from_pipe(engine._pipeline)
    theirs.set_progress_bar_config(disable=True)
    arguments: dict[str, Any] = {"width": 64, "height": 64, "mask_image": MASK, "negative_prompt": ""}
    accepted = inspect.signature(theirs.__call__).parameters
    expected = theirs(
        asked.prompt,
        image=START,
        strength=asked.strength,
        num_inference_steps=6,
        guidance_scale=3.0,
        generator=torch.Generator("cpu").manual_seed(asked.seed),
        **{name: value for name, value in arguments.items() if name in accepted},
    )
    [[ours]] = draw(engine, asked)
    wanted = np.asarray(expected.images[0], dtype=int)
    drawn = np.asarray(MASK) == 255 if asked.mask else np.ones((64, 64), dtype=bool)
    assert np.abs(ours[drawn] - wanted[drawn]).max() <= 1
    assert np.array_equal(ours[~drawn], np.asarray(START, dtype=int)[~drawn])  # theirs went through the VAE
    assert not np.array_equal(ours[drawn], np.asarray(START, dtype=int)[drawn])


def test_a_seed_s_picture_does_not_depend_on_its_batch(engine: PipelineEngine) -> None:
    for asked in (FROM_IMAGE, INPAINTED):
        other = replace(asked, prompt="a blue square", seed=9, num_outputs=2)
        assert engine.batch_key(asked) == engine.batch_key(other)
        [[alone]] = draw(engine, asked)
        together = draw(engine, asked, other)
        assert np.abs(together[0][0] - alone).max() <= 1
        assert [len(images) for images in together] == [1, 2]


def test_what_differs_in_its_pictures_or_strength_is_not_drawn_together(engine: PipelineEngine) -> None:
    text = replace(FROM_IMAGE, image="", strength=1.0)
    kinds = [text, FROM_IMAGE, replace(FROM_IMAGE, strength=0.7), INPAINTED]
    assert len({engine.batch_key(asked) for asked in kinds}) == 4


@pytest.mark.parametrize("steps", [6, 49])  # 49 * (1 / 49) is a little less than 1
def test_a_strength_of_less_than_a_step_takes_one(engine: PipelineEngine, steps: int) -> None:
    drawing = begin(engine, replace(FROM_IMAGE, strength=0.001, num_inference_steps=steps))
    seen: list[tuple[int, int]] = []
    engine.step([drawing], lambda: seen.append((drawing.steps_done, drawing.steps)))
    assert seen == [(1, 1)]


def test_progress_counts_the_steps_that_strength_leaves(engine: PipelineEngine) -> None:
    drawing = begin(engine, FROM_IMAGE)
    seen: list[tuple[int, int]] = []
    engine.step([drawing], lambda: seen.append((drawing.steps_done, drawing.steps)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    with pytest.raises(DrawingFailed, match="strength 0 leaves no step"):
        begin(engine, replace(FROM_IMAGE, strength=0.0))
    assert begin(engine, replace(FROM_IMAGE, image="")).steps == 6
