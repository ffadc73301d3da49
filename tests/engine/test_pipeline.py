"""Other pipelines of diffusers, tiny and random: run to the end, together where they are equal, stopped by raising."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from storage.predictions.parameters import Parameters
from tests.engine.tiny_pipelines import tiny_flux, tiny_sdxl, tiny_stable_diffusion
from worker.engine import DrawingFailed, OutOfMemory
from worker.engine.pipeline import PipelineEngine

# diffusers' Euler scheduler and numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

RED = Parameters(prompt="a red circle", width=64, height=64, num_inference_steps=3, guidance_scale=3.0, seed=5)
MAKERS = {"stable-diffusion": tiny_stable_diffusion, "sdxl": tiny_sdxl, "flux": tiny_flux}


class Stop(Exception):
    """What the scheduler raises where nobody waits any more."""


@pytest.fixture(scope="module", params=MAKERS)
def engine(request: pytest.FixtureRequest) -> PipelineEngine:
    return PipelineEngine(MAKERS[request.param](), device=torch.device("cpu"))


def draw(engine: PipelineEngine, *several: Parameters) -> list[list[np.ndarray[Any, Any]]]:
    drawings = [engine.begin(parameters) for parameters in several]
    steps: list[int] = []
    engine.step(drawings, lambda: steps.append(drawings[0].steps_done))
    assert steps == [1, 2, 3]
    return [[np.asarray(image, dtype=int) for image in engine.decode(drawing)()] for drawing in drawings]


def test_it_draws_and_a_seed_s_picture_does_not_depend_on_its_batch(engine: PipelineEngine) -> None:
    other = replace(RED, prompt="a blue square", negative_prompt="green", seed=9, num_outputs=2)
    assert engine.batch_key(RED) == engine.batch_key(other)
    [[red]] = draw(engine, RED)
    together = draw(engine, RED, other)
    assert [len(images) for images in together] == [1, 2]
    assert red.shape == (64, 64, 3)
    assert np.abs(together[0][0] - red).max() <= 1
    [apart] = draw(engine, other)
    for ours, theirs in zip(together[1], apart, strict=True):
        assert np.abs(ours - theirs).max() <= 1
    assert np.abs(together[1][0] - together[1][1]).max() > 1  # another seed, another picture


def test_what_differs_in_size_steps_or_guidance_is_not_drawn_together(engine: PipelineEngine) -> None:
    for other in (replace(RED, width=128), replace(RED, num_inference_steps=4), replace(RED, guidance_scale=0.0)):
        assert engine.batch_key(other) != engine.batch_key(RED)


def test_raising_after_a_step_stops_it_without_decoding_and_the_next_one_works(engine: PipelineEngine) -> None:
    decoded: list[object] = []
    watch = engine._pipeline.vae.decoder.register_forward_pre_hook(lambda module, given: decoded.append(given))

    def stop() -> None:
        raise Stop

    try:
        drawing = engine.begin(RED)
        with pytest.raises(Stop):
            engine.step([drawing], stop)
    finally:
        watch.remove()
    assert drawing.steps_done == 1
    assert decoded == []
    assert len(draw(engine, RED)[0]) == 1


def test_what_the_pipeline_refuses_is_the_requests_failure() -> None:
    engine = PipelineEngine(tiny_stable_diffusion(), device=torch.device("cpu"))
    with pytest.raises(DrawingFailed, match=r"refuses it.*divisible by 8"):
        engine.step([engine.begin(replace(RED, width=65))], lambda: None)


def test_out_of_memory_in_a_pipeline_is_told_apart() -> None:
    engine = PipelineEngine(tiny_stable_diffusion(), device=torch.device("cpu"))

    def fail(module: object, given: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    watch = engine._pipeline.unet.register_forward_pre_hook(fail)
    with pytest.raises(OutOfMemory):
        engine.step([engine.begin(RED)], lambda: None)
    watch.remove()
    assert len(draw(engine, RED)[0]) == 1
