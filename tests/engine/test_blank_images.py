"""A picture that a safety checker blackened, or that is NaN, is no result: the engine says which one, and why."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from storage.predictions.parameters import Parameters
from tests.engine.tiny_pipelines import guarded_stable_diffusion, tiny_flux, tiny_sdxl, tiny_stable_diffusion
from worker.engine import BlankImages, Drawing
from worker.engine.pipeline import PipelineEngine
from worker.engine.zimage import ZImageDrawing, ZImageEngine

# diffusers' Euler scheduler and numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CPU = torch.device("cpu")
RED = Parameters(prompt="a red circle", width=64, height=64, num_inference_steps=2, guidance_scale=3.0, seed=5)
EVERYTHING, NOTHING = -2.0, 2.0  # thresholds of the safety checker


def draw(engine: Any, *several: Parameters) -> list[Drawing]:
    drawings = [engine.begin(parameters) for parameters in several]
    while any(drawing.steps_done < drawing.steps for drawing in drawings):
        engine.step(drawings, lambda: None)
    return drawings


def same(one: Image.Image, other: Image.Image) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def is_black(image: Image.Image) -> bool:
    return not np.asarray(image).any()


def blank(develop: Callable[[], Any]) -> BlankImages:
    with pytest.raises(BlankImages) as caught:
        develop()
    return caught.value


def test_what_the_safety_checker_blackened_is_told_with_its_reason() -> None:
    engine = PipelineEngine(guarded_stable_diffusion(threshold=EVERYTHING), device=CPU)
    [drawing] = draw(engine, RED)
    error = blank(engine.decode(drawing))
    assert str(error).startswith("The image came out blank: NSFW content detected")
    assert [is_black(image) for image in error.images] == [True]


def test_a_safety_checker_that_finds_nothing_changes_nothing() -> None:
    guarded = PipelineEngine(guarded_stable_diffusion(threshold=NOTHING), device=CPU)
    open_ = PipelineEngine(tiny_stable_diffusion(), device=CPU)
    [[ours], [theirs]] = [engine.decode(draw(engine, RED)[0])() for engine in (guarded, open_)]
    assert not is_black(ours)
    assert same(ours, theirs)


def test_in_a_batch_only_the_request_whose_image_was_flagged_is_blank(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = guarded_stable_diffusion(threshold=NOTHING)

    def flag_the_third(clip_input: Any, images: Any) -> tuple[Any, list[bool]]:
        images[2] = torch.zeros_like(images[2])  # what the real one does
        return images, [index == 2 for index in range(len(images))]

    monkeypatch.setattr(pipeline.safety_checker, "forward", flag_the_third)
    engine = PipelineEngine(pipeline, device=CPU)
    first, second, third = draw(engine, RED, replace(RED, seed=6, num_outputs=3), replace(RED, seed=9))
    assert not is_black(engine.decode(first)()[0])
    error = blank(engine.decode(second))
    assert str(error).startswith("Image 2 of 3 came out blank: NSFW content detected")
    assert [is_black(image) for image in error.images] == [False, True, False]
    assert not is_black(engine.decode(third)()[0])


@pytest.mark.parametrize("maker", [tiny_stable_diffusion, tiny_sdxl, tiny_flux])
def test_nan_from_the_decoder_is_told_and_the_others_of_the_batch_are_not_harmed(maker: Callable[[], Any]) -> None:
    pipeline = maker()
    expected = PipelineEngine(pipeline, device=CPU)
    [[good], *_] = [expected.decode(drawing)() for drawing in draw(expected, RED, replace(RED, seed=6))]

    def spoil(module: object, given: object, decoded: torch.Tensor) -> torch.Tensor:
        decoded[1, :, 3, 4] = torch.nan  # one pixel of the second picture
        return decoded

    pipeline.vae.decoder.register_forward_hook(spoil)
    engine = PipelineEngine(pipeline, device=CPU)
    first, second = draw(engine, RED, replace(RED, seed=6))
    assert same(engine.decode(first)()[0], good)
    error = blank(engine.decode(second))
    assert "came out blank: the model computed NaN" in str(error)
    assert "dtype" in str(error)
    assert error.images[0].size == (64, 64)


def test_nan_and_a_safety_checker_at_once_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = guarded_stable_diffusion(threshold=NOTHING)
    monkeypatch.setattr(pipeline.safety_checker, "forward", lambda clip_input, images: (images, [False] * len(images)))
    pipeline.unet.conv_out.bias.data.fill_(torch.nan)
    engine = PipelineEngine(pipeline, device=CPU)
    with pytest.warns(RuntimeWarning, match="invalid value"):  # diffusers makes a picture of it for the checker
        [drawing] = draw(engine, RED)
    assert "NaN" in str(blank(engine.decode(drawing)))


@pytest.mark.parametrize("maker", [tiny_stable_diffusion, tiny_sdxl, tiny_flux])
def test_images_are_what_the_pipeline_itself_makes_of_them(maker: Callable[[], Any]) -> None:
    engine = PipelineEngine(maker(), device=CPU)
    [ours] = engine.decode(draw(engine, RED)[0])()
    [theirs] = engine._pipeline(**engine._arguments([engine.begin(RED)]) | {"output_type": "pil"}).images
    assert same(ours, theirs)
    assert ours.mode == "RGB"


def test_z_image_tells_which_picture_is_nan_and_gives_the_others(zimage: Any) -> None:
    engine = ZImageEngine(zimage, device=CPU)
    asked = replace(RED, guidance_scale=0.0, num_outputs=2)
    good = engine.decode(draw(engine, asked)[0])()
    [drawing] = draw(engine, asked)
    assert isinstance(drawing, ZImageDrawing)
    with torch.inference_mode():
        drawing.latents[1][0, 0, 2, 3] = torch.nan
    error = blank(engine.decode(drawing))
    assert str(error).startswith("Image 2 of 2 came out blank: the model computed NaN")
    assert same(error.images[0], good[0])


def test_z_image_whose_numbers_overflow_is_told(zimage: Any) -> None:
    """As float16 does it: weights so large that a sum becomes infinite."""
    broken = copy.deepcopy(zimage)
    for parameter in broken.transformer.parameters():
        parameter.data.mul_(1e30)
    engine = ZImageEngine(broken, device=CPU)
    [drawing] = draw(engine, replace(RED, guidance_scale=0.0))
    assert "NaN" in str(blank(engine.decode(drawing)))
