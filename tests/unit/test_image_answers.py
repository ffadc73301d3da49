"""Base64 that is made piece by piece, and what counts as used."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.openai.answers import base64_length, base64_of, usage
from storage.catalog import Limits, Model


@given(st.lists(st.binary(max_size=10)))
def test_base64_in_pieces_is_the_same_as_in_one(chunks: list[bytes]) -> None:
    encoded = b"".join(base64_of(chunks))
    assert encoded == base64.b64encode(b"".join(chunks))
    assert len(encoded) == base64_length(len(b"".join(chunks)))


@pytest.mark.parametrize(
    ("prompt", "negative_prompt", "tokens"),
    [("a", "", 1), ("abcd", "", 1), ("abcde", "", 2), ("ab", "cd", 1), ("円", "", 1), ("円円", "", 2)],
)
def test_a_text_token_is_four_bytes_of_both_prompts(prompt: str, negative_prompt: str, tokens: int) -> None:
    row = {"parameters": {"prompt": prompt, "negative_prompt": negative_prompt, "width": 64, "height": 64}}
    counted = usage(Model(name="a/b"), row, 1)
    assert counted["input_tokens"] == counted["input_tokens_details"]["text_tokens"] == tokens
    assert counted["total_tokens"] == tokens + 16


def test_an_image_token_is_a_square_of_the_models_unit_and_begun_ones_count() -> None:
    model = Model(name="a/b", limits=Limits(multiple_of=32))
    row = {"parameters": {"prompt": "a", "width": 64, "height": 48}}
    assert usage(model, row, 3)["output_tokens"] == 3 * 2 * 2
