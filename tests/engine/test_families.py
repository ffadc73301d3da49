"""The families of docs/models.md, tiny and with random weights: each is saved, loaded and drawn as a worker does it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from storage.catalog import Model
from storage.predictions.parameters import Parameters
from tests.engine.tiny_families import (
    save_as_published,
    tiny_chroma,
    tiny_flux2,
    tiny_flux2_klein,
    tiny_hidream,
    tiny_kolors,
    tiny_longcat,
    tiny_pixart,
    tiny_pixart_sigma,
    tiny_qwen_image,
    tiny_sana,
    tiny_sd3,
)
from tests.engine.tiny_pipelines import tiny_flux, tiny_sdxl, tiny_stable_diffusion
from worker.engine import load_engine

pytestmark = [
    # diffusers' Euler scheduler and numpy 2.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`FluxPosEmbed` is deprecated:FutureWarning"),
]

RED = Parameters(prompt="a red circle", width=64, height=64, num_inference_steps=3, guidance_scale=3.0, seed=5)
BLUE = replace(RED, prompt="a blue square on white", seed=9)
NEGATED = replace(RED, negative_prompt="green left and right")


class Family:
    """A family in a folder, and the engine that a worker makes of it."""

    def __init__(self, name: str, make: Callable[[], Any], folder: Path) -> None:
        self.name = name
        self.folder = save_as_published(make(), folder)
        model = Model(name="test/tiny", source=str(self.folder), dtype="float32")
        engine: Any = load_engine(model, device="cpu")
        self.engine = engine
        if name == "hidream":  # it draws in a size of its own: a megapixel, which takes too long here
            engine._pipeline.default_sample_size = 48

    def draw(self, *several: Parameters) -> list[np.ndarray[Any, Any]]:
        """The first image of each, drawn in one batch."""
        return [images[0] for images, _ in self.draw_all(*several)]

    def draw_all(self, *several: Parameters) -> list[tuple[list[np.ndarray[Any, Any]], list[str]]]:
        """Images and notes."""
        drawings = [self.engine.begin(parameters) for parameters in several]
        steps: list[int] = []
        self.engine.step(drawings, lambda: steps.append(drawings[0].steps_done))
        assert steps == [1, 2, 3]
        return [
            ([np.asarray(image, dtype=int) for image in self.engine.decode(drawing)()], list(drawing.notes))
            for drawing in drawings
        ]


def _kolors(folder: Path) -> Any:
    pytest.importorskip(
        "sentencepiece", reason="Kolors' tokenizer needs it: pip install -c constraints.txt sentencepiece"
    )
    return tiny_kolors(folder)


MAKERS: dict[str, Callable[[], Any]] = {
    "stable-diffusion": tiny_stable_diffusion,
    "sdxl": tiny_sdxl,
    "sd3": tiny_sd3,
    "flux": tiny_flux,
    "flux2": tiny_flux2,
    "flux2-klein": tiny_flux2_klein,
    "flux2-klein-distilled": lambda: tiny_flux2_klein(is_distilled=True),
    "qwen-image": tiny_qwen_image,
    "pixart-alpha": tiny_pixart,
    "pixart-sigma": tiny_pixart_sigma,
    "sana": tiny_sana,
    "longcat": tiny_longcat,
    "hidream": tiny_hidream,
    "chroma": tiny_chroma,
}


@pytest.fixture(scope="module", params=[*MAKERS, "kolors"])
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Family:
    folder = tmp_path_factory.mktemp(request.param)
    make = MAKERS.get(request.param, lambda: _kolors(folder / "vocabulary"))
    return Family(request.param, make, folder / "model")


def differs(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any], *, by_more_than: int = 0) -> bool:
    return bool(np.abs(one - other).max() > by_more_than)


def test_it_draws_what_is_asked_for_with_progress_alone_and_in_company(family: Family) -> None:
    [red] = family.draw(RED)
    assert red.shape == (64, 64, 3)
    assert red.std() > 1  # no plain sheet
    [(same, _), (two, _)] = family.draw_all(RED, replace(BLUE, num_outputs=2))
    assert not differs(red, same[0], by_more_than=1)
    assert differs(two[0], two[1])  # another seed
    assert differs(*family.draw(RED, replace(RED, prompt=BLUE.prompt)))  # another prompt


def test_logs_say_what_of_guidance_has_no_effect_and_the_rest_has_one(family: Family) -> None:
    [([plain], [*_]), ([negated], negated_notes), ([other], _)] = [
        family.draw_all(asked)[0] for asked in (RED, NEGATED, replace(RED, guidance_scale=9.0))
    ]
    said = [note for note in negated_notes if note.startswith("negative_prompt has no effect")]
    assert differs(plain, negated) != bool(said), negated_notes
    said = [note for note in negated_notes if note.startswith("guidance_scale has no effect")]
    assert differs(plain, other) != bool(said), negated_notes


def test_a_negative_prompt_at_a_guidance_scale_of_1_has_no_effect_and_logs_say_so(family: Family) -> None:
    plain, negated = [family.draw_all(replace(asked, guidance_scale=1.0))[0] for asked in (RED, NEGATED)]
    assert not differs(plain[0][0], negated[0][0])
    assert [note for note in negated[1] if note.startswith("negative_prompt has no effect")]
    assert not [note for note in plain[1] if note.startswith("negative_prompt")]


def test_an_image_that_was_drawn_in_another_size_is_resized_and_logs_say_so(family: Family) -> None:
    wide = replace(RED, width=128)
    [([image], notes)] = family.draw_all(wide)
    assert image.shape == (64, 128, 3)
    told = [note for note in notes if "the image was resized to 128 × 64" in note]
    assert bool(told) == (family.name == "hidream"), notes
