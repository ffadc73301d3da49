"""A prompt that is longer than the text encoders read: its client is told, and no log holds what was cut."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from diffusers.utils import logging as diffusers_logging

from storage.predictions.parameters import Parameters
from tests.engine.tiny_pipelines import tiny_flux, tiny_sdxl, tiny_stable_diffusion
from worker.engine.pipeline import PipelineEngine
from worker.engine.zimage import MAX_CAPTION_TOKENS, ZImageEngine

# diffusers' Euler scheduler and numpy 2.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

CPU = torch.device("cpu")
LONG = Parameters(
    prompt=" ".join(["circle"] * 100), width=64, height=64, num_inference_steps=2, guidance_scale=3.0, seed=5
)


@pytest.fixture
def told() -> Iterator[list[str]]:
    """What diffusers writes into its log."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Keep()
    diffusers_logging.add_handler(handler)
    yield lines
    diffusers_logging.remove_handler(handler)


@pytest.mark.parametrize("make", [tiny_stable_diffusion, tiny_sdxl])
def test_what_clip_cuts_is_noted_and_stands_in_no_log(make: Any, told: list[str]) -> None:
    pipeline = make()
    engine = PipelineEngine(pipeline, device=CPU)
    drawing = engine.begin(replace(LONG, negative_prompt=" ".join(["square"] * 90)))
    assert drawing.notes == (
        "The prompt has 100 tokens; this model reads the first 77.",
        "The negative prompt has 90 tokens; this model reads the first 77.",
    )
    engine.step([drawing], lambda: None)
    assert told == []
    pipeline(prompt=LONG.prompt, width=64, height=64, num_inference_steps=1)
    assert any("circle circle" in line for line in told), "diffusers itself would have written it down"


def test_where_another_encoder_reads_it_whole_the_note_says_so() -> None:
    drawing = PipelineEngine(tiny_flux(), device=CPU).begin(replace(LONG, guidance_scale=0.0))
    assert drawing.notes == ("The prompt has 100 tokens; one of this model's text encoders reads the first 77.",)


def test_a_prompt_that_fits_has_no_note(zimage: Any) -> None:
    for engine in (PipelineEngine(tiny_sdxl(), device=CPU), ZImageEngine(zimage, device=CPU)):
        assert engine.begin(replace(LONG, prompt="a red circle")).notes == ()


def test_z_image_notes_what_it_does_not_read_of_a_caption(zimage: Any) -> None:
    engine = ZImageEngine(zimage, device=CPU)
    drawing = engine.begin(replace(LONG, prompt=" ".join(["circle"] * 600), guidance_scale=0.0))
    (note,) = drawing.notes
    assert note.startswith("The prompt has 6")
    assert note.endswith(f"this model reads the first {MAX_CAPTION_TOKENS}.")
    assert len(drawing.caption) == MAX_CAPTION_TOKENS


def test_a_drawing_names_its_scheduler(zimage: Any) -> None:
    assert PipelineEngine(tiny_sdxl(), device=CPU).begin(LONG).sampler == "EulerDiscreteScheduler"
    assert ZImageEngine(zimage, device=CPU).begin(LONG).sampler == "FlowMatchEulerDiscreteScheduler"
