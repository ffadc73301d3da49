"""Z-Image stepped by hand is Z-Image: equal to the pipeline, whoever shares its steps."""

from __future__ import annotations

import copy
import random
import weakref
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from storage.predictions.parameters import Parameters
from tests.engine.rounding import assert_same_latents
from worker.engine import DeviceLost, OutOfMemory
from worker.engine.zimage import ZImageDrawing, ZImageEngine

CPU = torch.device("cpu")
RED = Parameters(
    prompt="a red circle on white", width=64, height=64, num_inference_steps=4, guidance_scale=0.0, seed=11
)
# float32: a sum over a batch is taken in another order. The latents' deviation is about 1.
FLOAT32_DIFFERENCE = 1e-5


@pytest.fixture
def engine(zimage: Any) -> ZImageEngine:
    return ZImageEngine(zimage, device=CPU)


@pytest.fixture(scope="module")
def bfloat16(zimage: Any) -> Any:
    return copy.deepcopy(zimage).to(torch.bfloat16)


def draw_alone(engine: ZImageEngine, parameters: Parameters) -> ZImageDrawing:
    drawing = engine.begin(parameters)
    while drawing.steps_done < drawing.steps:
        engine.step([drawing], lambda: None)
    return drawing


def draw_together(
    engine: ZImageEngine, several: Sequence[Parameters], *, chance: random.Random, max_batch: int = 4
) -> list[ZImageDrawing]:
    """They join and leave as they like, in any order."""
    drawings = [engine.begin(parameters) for parameters in several]
    while left := [drawing for drawing in drawings if drawing.steps_done < drawing.steps]:
        engine.step(chance.sample(left, chance.randint(1, min(max_batch, len(left)))), lambda: None)
    return drawings


def with_the_pipeline(pipeline: Any, asked: Parameters, *, output_type: str = "pil") -> Any:
    return pipeline(
        prompt=[asked.prompt],
        negative_prompt=[asked.negative_prompt],
        width=asked.width,
        height=asked.height,
        num_inference_steps=asked.num_inference_steps,
        guidance_scale=asked.guidance_scale,
        num_images_per_prompt=asked.num_outputs,
        generator=[torch.Generator("cpu").manual_seed(asked.seed_of(index)) for index in range(asked.num_outputs)],
        output_type=output_type,
    ).images


MIXED = [
    RED,
    replace(RED, prompt="a green square and a blue circle on the left and a red square on the right", seed=1),
    replace(RED, width=128, num_inference_steps=7, seed=2),
    replace(RED, height=96, guidance_scale=3.5, negative_prompt="blue", num_inference_steps=2, seed=3),
    replace(RED, num_outputs=3, num_inference_steps=1, seed=4),
    replace(RED, prompt="", width=128, height=128, seed=5),
]


@pytest.mark.parametrize(
    "asked",
    [
        *MIXED,
        replace(RED, num_inference_steps=8, num_outputs=2, guidance_scale=5.0),
        replace(RED, num_inference_steps=20, width=80, height=112),
    ],
    ids=lambda asked: f"{asked.width}x{asked.height}-{asked.num_inference_steps}-{asked.guidance_scale}",
)
def test_it_draws_what_the_pipeline_draws(zimage: Any, engine: ZImageEngine, asked: Parameters) -> None:
    drawing = draw_alone(engine, asked)
    expected = with_the_pipeline(zimage, asked, output_type="latent")
    ours = torch.stack(drawing.latents).squeeze(2)
    assert (ours - expected).abs().max() < FLOAT32_DIFFERENCE
    images = engine.decode(drawing)()
    assert [image.size for image in images] == [(asked.width, asked.height)] * asked.num_outputs
    for image, wanted in zip(images, with_the_pipeline(zimage, asked), strict=True):
        assert np.abs(np.asarray(image, dtype=int) - np.asarray(wanted, dtype=int)).max() <= 1


def test_it_draws_bit_for_bit_what_the_pipeline_draws_in_bfloat16(bfloat16: Any) -> None:
    engine = ZImageEngine(bfloat16, device=CPU)
    for asked in MIXED[:3]:
        drawing = draw_alone(engine, asked)
        expected = with_the_pipeline(bfloat16, asked, output_type="latent")
        assert torch.equal(torch.stack(drawing.latents).squeeze(2), expected)
        [image] = engine.decode(drawing)()
        [wanted] = with_the_pipeline(bfloat16, asked)
        assert np.array_equal(np.asarray(image), np.asarray(wanted))


@pytest.mark.parametrize("seed", range(3))
def test_the_picture_of_a_seed_does_not_depend_on_its_batch_in_float32(engine: ZImageEngine, seed: int) -> None:
    for parameters, drawing in zip(MIXED, draw_together(engine, MIXED, chance=random.Random(seed)), strict=True):
        alone = draw_alone(engine, parameters)
        for ours, theirs in zip(alone.latents, drawing.latents, strict=True):
            assert (ours - theirs).abs().max() < FLOAT32_DIFFERENCE


@pytest.mark.parametrize("seed", range(3))
def test_the_picture_of_a_seed_does_not_depend_on_its_batch_in_bfloat16_but_for_rounding(
    bfloat16: Any, seed: int
) -> None:
    engine = ZImageEngine(bfloat16, device=CPU)
    for parameters, drawing in zip(MIXED, draw_together(engine, MIXED, chance=random.Random(seed)), strict=True):
        alone = draw_alone(engine, parameters)
        for ours, theirs in zip(alone.latents, drawing.latents, strict=True):
            assert_same_latents(ours, theirs)


def test_a_back_end_without_masks_draws_the_same_in_groups_of_equal_lengths(zimage: Any, engine: ZImageEngine) -> None:
    grouping = ZImageEngine(zimage, device=CPU, attention="flash")
    masks: list[object] = []
    block = zimage.transformer.layers[0]
    watch = block.register_forward_pre_hook(lambda module, given: masks.append(given[1]))
    try:
        drawings = draw_together(grouping, MIXED, chance=random.Random(0))
    finally:
        watch.remove()
    assert masks
    assert all(mask is None for mask in masks)
    for parameters, drawing in zip(MIXED, drawings, strict=True):
        for ours, theirs in zip(draw_alone(engine, parameters).latents, drawing.latents, strict=True):
            assert (ours - theirs).abs().max() < FLOAT32_DIFFERENCE


def test_image_k_is_the_picture_of_seed_plus_k(bfloat16: Any) -> None:
    engine = ZImageEngine(bfloat16, device=CPU)
    four = draw_alone(engine, replace(RED, num_outputs=4))
    for index in range(4):
        [one] = draw_alone(engine, replace(RED, seed=RED.seed + index)).latents
        assert torch.equal(four.latents[index], one)


def test_a_number_of_steps_is_that_many_forwards_and_guidance_zero_is_one_sample(
    zimage: Any, engine: ZImageEngine
) -> None:
    samples: list[int] = []
    watch = zimage.transformer.register_forward_pre_hook(lambda module, given: samples.append(len(given[0])))
    try:
        draw_alone(engine, replace(RED, num_inference_steps=5))
        draw_alone(engine, replace(RED, num_inference_steps=2, guidance_scale=1.0))
    finally:
        watch.remove()
    assert samples == [1] * 5 + [2] * 2


def test_a_drawing_that_ran_out_of_memory_is_drawn_again_bit_for_bit(zimage: Any, engine: ZImageEngine) -> None:
    expected = draw_alone(engine, RED).latents
    calls = 0
    kept: list[weakref.ref[torch.Tensor]] = []

    def fail_once(module: object, given: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            scratch = torch.zeros(1000)
            kept.append(weakref.ref(scratch))
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    watch = zimage.transformer.register_forward_pre_hook(fail_once)
    try:
        drawing = engine.begin(RED)
        engine.step([drawing], lambda: None)
        engine.step([drawing], lambda: None)
        with pytest.raises(OutOfMemory, match="Tried to allocate") as caught:
            engine.step([drawing], lambda: None)
        assert drawing.steps_done == 2
        assert caught.value.__context__ is None  # whose traceback would keep the tensors alive
        assert [reference() for reference in kept] == [None]
        again = draw_alone(engine, RED)
    finally:
        watch.remove()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(again.latents, expected, strict=True))


def test_a_device_that_is_lost_is_told_apart(zimage: Any, engine: ZImageEngine) -> None:
    def die(module: object, given: Any) -> None:
        raise torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCompile with …")

    watch = zimage.transformer.register_forward_pre_hook(die)
    try:
        with pytest.raises(DeviceLost, match=r"illegal memory access was encountered$"):
            draw_alone(engine, RED)
    finally:
        watch.remove()


def test_a_prompt_is_encoded_once_and_at_the_length_that_it_needs(zimage: Any, engine: ZImageEngine) -> None:
    lengths: list[int] = []
    watch = zimage.text_encoder.register_forward_pre_hook(
        lambda module, args, given: lengths.append(given["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        first, again = engine.begin(RED), engine.begin(replace(RED, seed=99))
        engine.begin(replace(RED, guidance_scale=2.0, negative_prompt="green"))
    finally:
        watch.remove()
    assert first.caption is again.caption
    assert lengths == [32, 32]
    at_full_length = zimage.encode_prompt([RED.prompt], do_classifier_free_guidance=False)[0][0]
    assert (at_full_length - first.caption).abs().max() < 1e-5


def test_a_prompt_beyond_the_encoders_length_is_cut_where_the_pipeline_cuts_it(
    zimage: Any, engine: ZImageEngine
) -> None:
    asked = replace(RED, prompt="red " * 700, num_inference_steps=1)
    expected = with_the_pipeline(zimage, asked, output_type="latent")
    assert (draw_alone(engine, asked).latents[0].squeeze(1) - expected[0]).abs().max() < FLOAT32_DIFFERENCE


def test_previews_come_closer_to_the_picture_and_cost_no_decoding(zimage: Any, engine: ZImageEngine) -> None:
    drawing = engine.begin(replace(RED, previews=True, width=128, num_inference_steps=6))
    engine.step([drawing], lambda: None)
    decoded: list[object] = []
    watch = zimage.vae.decoder.register_forward_pre_hook(lambda module, given: decoded.append(given))
    try:
        sizes = []
        forecasts = []
        while drawing.steps_done < drawing.steps:
            engine.step([drawing], lambda: None)
            show = engine.preview(drawing)
            assert show is not None
            sizes.append(show().size)
            assert drawing.forecast is not None
            forecasts.append(drawing.forecast)
    finally:
        watch.remove()
    assert sizes == [(16, 8)] * 5
    assert decoded == []
    distances = [float((forecast - drawing.latents[0]).abs().mean()) for forecast in forecasts]
    assert distances[-1] < 1e-6
    assert distances[-1] < distances[0]
    assert engine.preview(engine.begin(RED)) is None
