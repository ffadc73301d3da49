"""Z-Image from a start image and a mask: equal to diffusers' own pipelines, in any company."""

from __future__ import annotations

import copy
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import ZImageImg2ImgPipeline, ZImageInpaintPipeline
from PIL import Image

from storage.predictions.parameters import Parameters
from tests.engine.drawn_pictures import colours, corner
from tests.engine.rounding import assert_same_latents
from worker.engine import DrawingFailed, Pictures
from worker.engine.zimage import ZImageDrawing, ZImageEngine

CPU = torch.device("cpu")
FROM_IMAGE = Parameters(
    prompt="a red circle", width=64, height=64, num_inference_steps=8, guidance_scale=0.0, seed=3,
    image="of the test", strength=0.6,
)  # fmt: skip
INPAINTED = replace(FROM_IMAGE, mask="of the test", strength=1.0, seed=4)
# float32: a sum over a batch is taken in another order. The latents' deviation is about 1.
FLOAT32_DIFFERENCE = 1e-5

CASES = [
    FROM_IMAGE,
    replace(FROM_IMAGE, strength=0.3, num_outputs=2),
    replace(FROM_IMAGE, strength=0.05, guidance_scale=3.0, negative_prompt="blue"),
    replace(FROM_IMAGE, strength=1.0, width=96, height=128, num_inference_steps=5),
    INPAINTED,
    replace(INPAINTED, strength=0.7, num_outputs=2, guidance_scale=2.0),
    replace(INPAINTED, strength=0.1, width=128, height=96),
]


@pytest.fixture(scope="module")
def bfloat16(zimage: Any) -> Any:
    return copy.deepcopy(zimage).to(torch.bfloat16)


def given(asked: Parameters) -> Pictures | None:
    if not asked.image:
        return None
    size = asked.width, asked.height
    return Pictures(colours(*size), corner(*size) if asked.mask else None)


def draw(engine: ZImageEngine, asked: Parameters) -> ZImageDrawing:
    drawing = engine.begin(asked, given(asked))
    while drawing.steps_done < drawing.steps:
        engine.step([drawing], lambda: None)
    return drawing


def with_the_pipeline(pipeline: Any, asked: Parameters, *, output_type: str = "latent") -> Any:
    """What diffusers' pipeline draws with the same parts; images of a list are encoded one by one, as ours are."""
    kind = ZImageInpaintPipeline if asked.mask else ZImageImg2ImgPipeline
    theirs = kind(**pipeline.components | {"scheduler": copy.deepcopy(pipeline.scheduler)})
    theirs.set_progress_bar_config(disable=True)
    pictures = given(asked)
    assert pictures is not None
    masks = {"mask_image": [pictures.mask] * asked.num_outputs} if asked.mask else {}
    return theirs(
        prompt=[asked.prompt] * asked.num_outputs,
        negative_prompt=[asked.negative_prompt] * asked.num_outputs,
        image=[pictures.image] * asked.num_outputs,
        **masks,
        strength=asked.strength,
        width=asked.width,
        height=asked.height,
        num_inference_steps=asked.num_inference_steps,
        guidance_scale=asked.guidance_scale,
        generator=[torch.Generator("cpu").manual_seed(asked.seed_of(index)) for index in range(asked.num_outputs)],
        output_type=output_type,
    ).images


def case_name(asked: Parameters) -> str:
    return f"{'mask' if asked.mask else 'image'}-{asked.strength}-{asked.width}x{asked.height}-{asked.guidance_scale}"


@pytest.mark.parametrize("asked", CASES, ids=case_name)
def test_it_draws_bit_for_bit_what_diffusers_pipeline_draws_in_bfloat16(bfloat16: Any, asked: Parameters) -> None:
    expected = with_the_pipeline(bfloat16, asked)
    ours = torch.stack(draw(ZImageEngine(bfloat16, device=CPU), asked).latents).squeeze(2)
    assert torch.equal(ours, expected)


@pytest.mark.parametrize("asked", CASES, ids=case_name)
def test_it_draws_what_diffusers_pipeline_draws_in_float32(zimage: Any, asked: Parameters) -> None:
    expected = with_the_pipeline(zimage, asked)
    ours = torch.stack(draw(ZImageEngine(zimage, device=CPU), asked).latents).squeeze(2)
    assert (ours - expected).abs().max() < FLOAT32_DIFFERENCE
    assert ours.std() > 0.1


def test_strength_decides_how_many_steps_are_taken(zimage: Any) -> None:
    engine = ZImageEngine(zimage, device=CPU)
    steps = {strength: engine.begin(replace(FROM_IMAGE, strength=strength), given(FROM_IMAGE)).steps
             for strength in (1e-20, 0.05, 0.3, 0.5, 0.6, 1.0)}  # fmt: skip
    assert steps == {1e-20: 1, 0.05: 1, 0.3: 3, 0.5: 4, 0.6: 5, 1.0: 8}
    with pytest.raises(DrawingFailed, match="strength 0 leaves no step to draw"):
        engine.begin(replace(FROM_IMAGE, strength=0.0), given(FROM_IMAGE))


def test_outside_of_the_mask_the_result_is_the_start_image_pixel_for_pixel(zimage: Any) -> None:
    engine = ZImageEngine(zimage, device=CPU)
    for asked in (INPAINTED, replace(INPAINTED, strength=0.5, num_outputs=2, width=128)):
        images = engine.decode(draw(engine, asked))()
        pictures = given(asked)
        assert pictures is not None
        white = np.asarray(pictures.mask) > 0
        source = np.asarray(pictures.image)
        for image in images:
            assert np.array_equal(np.asarray(image)[~white], source[~white])
            assert not np.array_equal(np.asarray(image)[white], source[white])


def test_pictures_of_another_size_are_cut_around_their_centre_and_resized(zimage: Any) -> None:
    engine = ZImageEngine(zimage, device=CPU)
    wide = colours(200, 100)
    drawing = engine.begin(FROM_IMAGE, Pictures(wide))
    assert drawing.pictures is not None
    expected = wide.resize((64, 64), Image.Resampling.LANCZOS, box=(50, 0, 150, 100))
    assert np.array_equal(np.asarray(drawing.pictures.image), np.asarray(expected))
    half = Image.new("L", (20, 10), 0)
    half.paste(255, (10, 0, 20, 10))
    masked = engine.begin(INPAINTED, Pictures(wide, half)).pictures
    assert masked is not None
    assert masked.mask is not None
    assert masked.mask.getpixel((5, 32)) == 0
    assert masked.mask.getpixel((58, 32)) == 255


MIXED = [
    Parameters(prompt="a green square", width=64, height=64, num_inference_steps=4, guidance_scale=0.0, seed=11),
    *CASES,
]


@pytest.mark.parametrize("seed", range(3))
def test_texts_start_images_and_masks_share_a_batch_and_each_seed_keeps_its_picture(bfloat16: Any, seed: int) -> None:
    engine = ZImageEngine(bfloat16, device=CPU)
    chance = random.Random(seed)
    drawings = [engine.begin(asked, given(asked)) for asked in MIXED]
    while left := [drawing for drawing in drawings if drawing.steps_done < drawing.steps]:
        engine.step(chance.sample(left, chance.randint(1, min(4, len(left)))), lambda: None)
    for asked, drawing in zip(MIXED, drawings, strict=True):
        for ours, theirs in zip(draw(engine, asked).latents, drawing.latents, strict=True):
            assert_same_latents(ours, theirs)


def test_previews_of_an_inpainting_come_closer_to_the_picture(zimage: Any) -> None:
    engine = ZImageEngine(zimage, device=CPU)
    drawing = engine.begin(replace(INPAINTED, previews=True), given(INPAINTED))
    distances = []
    forecasts = []
    while drawing.steps_done < drawing.steps:
        engine.step([drawing], lambda: None)
        assert drawing.forecast is not None
        forecasts.append(drawing.forecast)
    distances = [float((forecast - drawing.latents[0]).abs().mean()) for forecast in forecasts]
    assert distances[-1] < 1e-6
    assert distances[-1] < distances[0]
