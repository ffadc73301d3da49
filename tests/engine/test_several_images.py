"""Families that look at several images of a request: all of them have a say, and no other request's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.qwenimage import pipeline_qwenimage_edit_plus

from storage.catalog import Limits, Model
from storage.predictions.parameters import Parameters
from tests.engine.drawn_pictures import colours
from tests.engine.tiny_families import save_as_published, tiny_flux2, tiny_flux2_klein, tiny_qwen_edit_plus
from tests.engine.tiny_pipelines import tiny_flux
from worker.engine import DrawingFailed, ModelNotLoaded, Pictures, load_engine

SIDE = 64
ASKED = Parameters(
    prompt="a red circle", width=SIDE, height=SIDE, num_inference_steps=3, guidance_scale=3.0, seed=5,
    image="first", more_images=("second", "third"),
)  # fmt: skip
GIVEN = {"first": colours(SIDE, SIDE, 1), "second": colours(96, SIDE, 2), "third": colours(SIDE, 128, 3)}
MAKERS: dict[str, Callable[[], Any]] = {
    "flux2": tiny_flux2,
    "flux2-klein": tiny_flux2_klein,
    "qwen-edit-plus": tiny_qwen_edit_plus,
}


@pytest.fixture(scope="module", params=MAKERS)
def engine(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = save_as_published(MAKERS[request.param](), tmp_path_factory.mktemp(request.param))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline_qwenimage_edit_plus, "VAE_IMAGE_SIZE", SIDE**2)  # a megapixel takes too long here
        yield load_engine(model(folder, max_input_images=3), device="cpu")


def model(folder: Path, max_input_images: int) -> Model:
    return Model(
        name="a/b",
        source=str(folder),
        dtype="float32",
        takes=("image",),
        limits=Limits(max_input_images=max_input_images),
    )


def pictures(asked: Parameters) -> Pictures | None:
    if not asked.image:
        return None
    return Pictures(GIVEN[asked.image], None, tuple(GIVEN[name] for name in asked.more_images))


def draw(engine: Any, *several: Parameters) -> list[list[np.ndarray[Any, Any]]]:
    assert len({engine.batch_key(asked) for asked in several}) == 1
    drawings = [engine.begin(asked, pictures(asked)) for asked in several]
    engine.step(drawings, lambda: None)
    return [[np.asarray(image, dtype=int) for image in engine.decode(drawing)()] for drawing in drawings]


def test_it_draws_what_diffusers_own_pipeline_draws_from_all_of_them(engine: Any) -> None:
    scale = {"true_cfg_scale": 3.0, "negative_prompt": " "} if "Qwen" in type(engine._pipeline).__name__ else {}
    theirs = engine._pipeline(
        prompt=ASKED.prompt,
        image=[GIVEN["first"], GIVEN["second"], GIVEN["third"]],
        width=SIDE,
        height=SIDE,
        num_inference_steps=3,
        generator=torch.Generator("cpu").manual_seed(ASKED.seed),
        **(scale or {"guidance_scale": 3.0}),
    ).images[0]
    [[ours]] = draw(engine, ASKED)
    assert np.array_equal(ours, np.asarray(theirs, dtype=int))


def test_each_image_has_a_say_and_so_has_their_order(engine: Any) -> None:
    drawn = [
        draw(engine, replace(ASKED, image=first, more_images=more))[0][0]
        for first, more in (
            ("first", ()),
            ("first", ("second",)),
            ("first", ("second", "third")),
            ("first", ("third", "second")),
            ("second", ()),
        )
    ]
    for index, one in enumerate(drawn):
        assert one.shape == (SIDE, SIDE, 3)
        for other in drawn[index + 1 :]:
            assert not np.array_equal(one, other)


def test_requests_with_other_images_or_words_are_not_drawn_together(engine: Any) -> None:
    others = [
        ASKED,
        replace(ASKED, image="second"),
        replace(ASKED, more_images=("second",)),
        replace(ASKED, prompt="a blue square"),
    ]
    assert len({engine.batch_key(asked) for asked in others}) == len(others)


def test_several_pictures_of_one_request_are_those_of_their_seeds(engine: Any) -> None:
    alone = [draw(engine, replace(ASKED, seed=seed))[0][0] for seed in (5, 6, 9)]
    [[first, second], [third]] = draw(engine, replace(ASKED, num_outputs=2), replace(ASKED, seed=9))
    for one, other in zip((first, second, third), alone, strict=True):
        assert np.abs(one - other).max() <= 1
    assert not np.array_equal(first, second)


def test_without_an_image_it_draws_from_the_text_or_says_that_it_only_edits(engine: Any) -> None:
    text = replace(ASKED, image="", more_images=())
    if "Qwen" in type(engine._pipeline).__name__:
        with pytest.raises(DrawingFailed, match="only edits pictures: send an image"):
            engine.begin(text)
    else:
        [[drawn]] = draw(engine, text)
        assert drawn.std() > 1


def test_a_pipeline_that_starts_from_one_image_is_not_loaded_with_more(tmp_path: Path) -> None:
    folder = save_as_published(tiny_flux(), tmp_path / "flux")
    with pytest.raises(ModelNotLoaded, match=r"a FluxPipeline starts from one image: max_input_images .* can't be 3"):
        load_engine(model(folder, max_input_images=3), device="cpu")
