"""Requests held against a model's limits: the answer names the field, the value and the limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import InvalidInput
from api.predictions.inputs import Inputs, inputs_for
from api.schemas import ASPECT_RATIOS, PredictionRequest
from storage.catalog import Defaults, Limits, Model
from storage.formats import NAMES
from storage.predictions.parameters import MAX_SEED

MODEL = Model(
    name="test/model",
    engine="blank",
    defaults=Defaults(width=128, height=64, num_inference_steps=4, guidance_scale=1.5),
    limits=Limits(multiple_of=16, max_side=256, max_pixels=32768, max_steps=10, max_prompt_chars=20, max_outputs=2),
)


FORMAT_NAMES = f"{', '.join(map(repr, NAMES[:-1]))} or {NAMES[-1]!r}"


def inputs_of(model: Model, given: dict[str, Any]) -> Inputs:
    return inputs_for(model, PredictionRequest(input=given))


def refusal(**inputs: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        inputs_of(MODEL, {"prompt": "a cat"} | inputs)
    assert caught.value.status == 422
    return caught.value.detail


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"width": 100}, "input.width: 100 is not a multiple of 16"),
        ({"height": 48}, "input.height: 48 is outside of 64 to 256"),
        ({"width": 272}, "input.width: 272 is outside of 64 to 256"),
        ({"width": 256, "height": 256}, "256x256 has 65536 pixels; test/model draws at most 32768"),
        ({"num_inference_steps": 11}, "input.num_inference_steps: 11 is over the limit of test/model, which is 10"),
        ({"num_inference_steps": 0}, "input.num_inference_steps: Input should be greater than or equal to 1 (got 0)"),
        ({"guidance_scale": 20.5}, "input.guidance_scale: 20.5 is over the limit of test/model, which is 20.0"),
        ({"num_outputs": 3}, "input.num_outputs: 3 is over the limit of test/model, which is 2"),
        ({"num_outputs": True}, "input.num_outputs: Input should be a valid integer (got true)"),
        ({"seed": -2}, "input.seed: Input should be greater than or equal to 0 (got -2)"),
        ({"seed": 2**64}, "input.seed: Input should be less than or equal to 18446744073709551615"),
        ({"seed": "7"}, "input.seed: Input should be a valid integer (got '7'); write it without quotes"),
        ({"width": "128"}, "input.width: Input should be a valid integer (got '128'); write it without quotes"),
        ({"guidance_scale": "1.5"}, "input.guidance_scale: Input should be a valid number (got '1.5'); write it"),
        ({"seed": False}, "input.seed: Input should be a valid integer (got false)"),
        ({"size": "2K"}, "input.size: must be WIDTHxHEIGHT, such as 1024x1024, or auto (got '2K')"),
        ({"size": "128x100"}, "input.height: 100 is not a multiple of 16"),
        ({"prompt": ""}, "input.prompt: must not be empty (got '')"),
        ({"prompt": " \t\n\u3000"}, "input.prompt: must not be empty"),
        ({"prompt": "x" * 21}, "input.prompt: has 21 characters; test/model takes at most 20"),
        ({"negative_prompt": "x" * 21}, "input.negative_prompt: has 21 characters"),
        ({"prompt": "a\0b"}, "input.prompt: must not contain the character NUL"),
        ({"prompt": "\ud800"}, "input.prompt: must be valid Unicode"),
        ({"prompt": 5}, "input.prompt: Input should be a valid string (got 5)"),
        ({"prompt": None}, "input.prompt: Input should be a valid string (got null)"),
        ({"prompt": {"text": None}}, 'input.prompt: Input should be a valid string (got {"text": null})'),
        ({"aspect_ratio": "7:1"}, "input.aspect_ratio: '7:1' is none of 1:1, 16:9"),
        ({"output_format": "gif"}, f"input.output_format: Input should be {FORMAT_NAMES} (got 'gif')"),
        ({"output_quality": 101}, "input.output_quality: Input should be less than or equal to 100 (got 101)"),
    ],
)
def test_what_a_model_does_not_take_is_refused_by_field_value_and_limit(inputs: dict[str, Any], said: str) -> None:
    assert said in refusal(**inputs)


@pytest.mark.parametrize("side", [256, 100])
def test_a_model_of_one_size_says_which(side: int) -> None:
    only = MODEL.model_copy(
        update={
            "defaults": Defaults(width=128, height=128, num_inference_steps=4),
            "limits": Limits(multiple_of=16, min_side=128, max_side=128),
        }
    )
    with pytest.raises(InvalidInput) as caught:
        inputs_of(only, {"prompt": "a cat", "height": side})
    assert caught.value.detail == f"input.height: must be 128 for test/model (got {side})"


@pytest.mark.parametrize("field", ["width", "height"])
@pytest.mark.parametrize(("format_", "longest"), [("webp", 16_383), ("jpg", 65_500), ("jpeg", 65_500)])
def test_a_side_that_the_file_format_can_not_hold_is_refused_before_it_is_drawn(
    format_: str, longest: int, field: str
) -> None:
    long = MODEL.model_copy(update={"limits": Limits(multiple_of=1, min_side=8, max_side=70_000, max_pixels=10**7)})
    size = {"width": 8, "height": 8}
    found = inputs_of(long, {"prompt": "a cat", "output_format": format_, **size, field: longest}).parameters
    assert getattr(found, field) == longest
    for side in (longest + 1, 65_536):
        with pytest.raises(InvalidInput) as caught:
            inputs_of(long, {"prompt": "a", "output_format": format_, **size, field: side})
        assert f"input.{field}: {side} is over {longest} pixels" in caught.value.detail
        assert caught.value.status == 422
    assert getattr(inputs_of(long, {"prompt": "a", **size, field: 65_536}).parameters, field) == 65_536  # PNG


def test_a_prompt_is_required() -> None:
    with pytest.raises(InvalidInput, match=r"input\.prompt: is required"):
        inputs_of(MODEL, {})


def test_what_is_left_open_comes_from_the_model_and_zero_is_a_value() -> None:
    open_ = inputs_of(MODEL, {"prompt": "a cat"}).parameters
    assert (open_.width, open_.height, open_.num_inference_steps, open_.guidance_scale) == (128, 64, 4, 1.5)
    assert 0 <= open_.seed < 2**32
    zero = inputs_of(MODEL, {"prompt": "a cat", "guidance_scale": 0, "seed": 0}).parameters
    assert (zero.guidance_scale, zero.seed) == (0.0, 0)


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
def test_every_aspect_ratio_gives_a_size_that_the_model_draws(ratio: str) -> None:
    found = inputs_of(MODEL, {"prompt": "a cat", "aspect_ratio": ratio}).parameters
    assert found.width % 16 == found.height % 16 == 0
    assert found.width * found.height <= 32768


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text(), max_size=4))
def test_unknown_inputs_are_named_in_the_logs_and_never_harm_them(unknown: dict[str, Any]) -> None:
    notes = inputs_of(
        MODEL, {"aspect_ratio": "1:1"} | {f"x{name}": value for name, value in unknown.items()} | {"prompt": "a"}
    ).notes
    assert "\0" not in notes
    notes.encode()
    assert all(line.isprintable() for line in notes.splitlines())
    assert ("Ignored inputs" in notes) == bool(unknown)


@pytest.mark.parametrize("nothing", [-1, -1.0, "", None])
def test_an_open_seed_is_random(nothing: object) -> None:
    drawn = {inputs_of(MODEL, {"prompt": "a cat", "seed": nothing}).parameters.seed for _ in range(20)}
    assert len(drawn) > 1
    assert all(0 <= seed <= MAX_SEED for seed in drawn)


@pytest.mark.parametrize(
    ("given_", "used"), [(2**32 - 1, 2**32 - 1), (2**32, 0), (2**63 + 7, 7), (2**64 - 1, 2**32 - 1)]
)
def test_of_a_larger_seed_the_lowest_32_bits_count_and_the_logs_say_so(given_: int, used: int) -> None:
    inputs = inputs_of(MODEL, {"prompt": "a cat", "seed": given_})
    assert inputs.parameters.seed == used
    assert (f"the lowest 32 bits of {given_}" in inputs.notes) == (given_ != used)


def test_the_seeds_of_several_images_go_on_at_0_after_the_last_one() -> None:
    parameters = inputs_of(MODEL, {"prompt": "a cat", "seed": 2**64 - 1, "num_outputs": 2}).parameters
    assert [parameters.seed_of(index) for index in range(2)] == [2**32 - 1, 0]


@pytest.mark.parametrize(
    ("inputs", "size", "overruled"),
    [
        ({"size": "64x128"}, (64, 128), ""),
        ({"size": "64*128"}, (64, 128), ""),
        ({"size": "64X128"}, (64, 128), ""),
        ({"size": "64×128"}, (64, 128), ""),
        ({"size": "auto"}, (128, 64), ""),
        ({"size": ""}, (128, 64), ""),
        ({"size": None}, (128, 64), ""),
        ({"size": "64x128", "width": 80}, (80, 128), ""),
        ({"size": "64x128", "width": 80, "height": 96}, (80, 96), "size"),
        ({"size": "64x128", "aspect_ratio": "1:1"}, (64, 128), "aspect_ratio"),
        ({"size": "auto", "aspect_ratio": "1:1"}, (96, 96), ""),
        ({"aspect_ratio": "1:1", "width": 80}, (80, 64), "aspect_ratio"),
        ({"aspect_ratio": "1:1", "size": "64x64", "width": 80, "height": 96}, (80, 96), "size, aspect_ratio"),
        ({"aspect_ratio": ""}, (128, 64), ""),
    ],
)
def test_width_and_height_come_before_size_and_size_before_the_ratio(
    inputs: dict[str, Any], size: tuple[int, int], overruled: str
) -> None:
    found = inputs_of(MODEL, {"prompt": "a cat"} | inputs)
    assert (found.parameters.width, found.parameters.height) == size
    notes = found.notes
    assert (f"another input gives the size: {overruled}\n" in notes) if overruled else ("gives the size" not in notes)
