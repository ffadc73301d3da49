"""Requests held against a model's limits: the answer names the field, the value and the limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import InvalidInput
from api.inputs import notes_on, parameters_for, parse_input
from api.schemas import ASPECT_RATIOS
from storage.catalog import Defaults, Limits, Model

MODEL = Model(
    name="test/model",
    engine="blank",
    defaults=Defaults(width=128, height=64, num_inference_steps=4, guidance_scale=1.5),
    limits=Limits(multiple_of=16, max_side=256, max_pixels=32768, max_steps=10, max_prompt_chars=20, max_outputs=2),
)


def refusal(**inputs: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        parameters_for(MODEL, parse_input({"prompt": "a cat"} | inputs))
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
        ({"seed": -1}, "input.seed: Input should be greater than or equal to 0 (got -1)"),
        ({"seed": 2**32}, "input.seed: Input should be less than or equal to 4294967295 (got 4294967296)"),
        ({"prompt": "x" * 21}, "input.prompt: has 21 characters; test/model takes at most 20"),
        ({"negative_prompt": "x" * 21}, "input.negative_prompt: has 21 characters"),
        ({"prompt": "a\0b"}, "input.prompt: Value error, must not contain the character NUL"),
        ({"prompt": "\ud800"}, "input.prompt: Value error, must be valid Unicode"),
        ({"prompt": 5}, "input.prompt: Input should be a valid string (got 5)"),
        ({"prompt": None}, "input.prompt: Input should be a valid string (got null)"),
        ({"prompt": {"text": None}}, 'input.prompt: Input should be a valid string (got {"text": null})'),
        ({"aspect_ratio": "7:1"}, "input.aspect_ratio: '7:1' is none of 1:1, 16:9"),
        ({"output_format": "gif"}, "input.output_format: Input should be 'png', 'jpg', 'jpeg' or 'webp' (got 'gif')"),
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
        parameters_for(only, parse_input({"prompt": "a cat", "height": side}))
    assert caught.value.detail == f"input.height: must be 128 for test/model (got {side})"


def test_a_prompt_is_required() -> None:
    with pytest.raises(InvalidInput, match=r"input\.prompt: is required"):
        parse_input({})


def test_what_is_left_open_comes_from_the_model_and_zero_is_a_value() -> None:
    open_ = parameters_for(MODEL, parse_input({"prompt": "a cat"}))
    assert (open_.width, open_.height, open_.num_inference_steps, open_.guidance_scale) == (128, 64, 4, 1.5)
    assert 0 <= open_.seed < 2**32
    zero = parameters_for(MODEL, parse_input({"prompt": "a cat", "guidance_scale": 0, "seed": 0}))
    assert (zero.guidance_scale, zero.seed) == (0.0, 0)


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
def test_every_aspect_ratio_gives_a_size_that_the_model_draws(ratio: str) -> None:
    found = parameters_for(MODEL, parse_input({"prompt": "a cat", "aspect_ratio": ratio}))
    assert found.width % 16 == found.height % 16 == 0
    assert found.width * found.height <= 32768


@given(st.dictionaries(st.text(), st.none() | st.integers() | st.text(), max_size=4))
def test_unknown_inputs_are_named_in_the_logs_and_never_harm_them(unknown: dict[str, Any]) -> None:
    asked = parse_input(
        {"aspect_ratio": "1:1"} | {f"x{name}": value for name, value in unknown.items()} | {"prompt": "a"}
    )
    notes = notes_on(asked, parameters_for(MODEL, asked))
    assert "\0" not in notes
    notes.encode()
    assert all(line.isprintable() for line in notes.splitlines())
    assert ("Ignored inputs" in notes) == bool(unknown)
