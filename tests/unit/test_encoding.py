"""Pictures as files: the parameters in them as image tools read them, and the thumbnail."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from storage.predictions.parameters import Parameters
from worker.publish.encoding import THUMBNAIL_SIDE, describe, encode, encode_thumbnail

PARAMETERS = Parameters(
    prompt="a red circle,\non “snow” 雪",
    negative_prompt="blue",
    width=320,
    height=160,
    num_inference_steps=8,
    guidance_scale=0.0,
    seed=2**32 - 1,
    num_outputs=2,
)
PICTURE = Image.effect_noise((320, 160), 80).convert("RGB")
TEXT = describe(PARAMETERS, 1, model="darkroom/blank", version="1")


def opened(body: bytes) -> Any:
    return Image.open(io.BytesIO(body))


def test_the_description_is_what_a1111_writes() -> None:
    assert TEXT == (
        "a red circle,\non “snow” 雪\n"
        "Negative prompt: blue\n"
        "Steps: 8, Sampler: Euler, CFG scale: 0, Seed: 0, Size: 320x160, Model: darkroom/blank, Version: 1"
    )


def test_a_png_carries_it_as_its_parameters_chunk() -> None:
    body, content_type = encode(PICTURE, PARAMETERS, text=TEXT)
    assert content_type == "image/png"
    assert opened(body).text["parameters"] == TEXT


@pytest.mark.parametrize("format_", ["jpg", "webp"])
def test_jpeg_and_webp_carry_it_as_the_exif_user_comment(format_: str) -> None:
    body, _ = encode(PICTURE, replace(PARAMETERS, output_format=format_), text=TEXT)
    comment = opened(body).getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0"
    assert comment[8:].decode("utf-16-be") == TEXT


@pytest.mark.parametrize("format_", ["png", "jpg", "webp"])
def test_nothing_is_written_where_it_is_turned_off(format_: str) -> None:
    body, _ = encode(PICTURE, replace(PARAMETERS, output_format=format_))
    assert not opened(body).getexif()
    assert not getattr(opened(body), "text", {})
    assert b"red circle" not in body


def test_a_prompt_that_is_longer_than_exif_allows_is_cut() -> None:
    body, _ = encode(PICTURE, replace(PARAMETERS, output_format="jpg"), text="x" * 100_000)
    opened(body).load()


@pytest.mark.parametrize("format_", ["jpg", "webp"])
def test_the_quality_is_obeyed(format_: str) -> None:
    sizes = [
        len(encode(PICTURE, replace(PARAMETERS, output_format=format_, output_quality=quality))[0])
        for quality in (10, 50, 95)
    ]
    assert sizes == sorted(sizes)
    assert sizes[0] * 2 < sizes[2]


def test_the_thumbnail_is_a_small_webp_of_the_same_shape() -> None:
    body, content_type = encode_thumbnail(PICTURE)
    small = opened(body)
    assert (content_type, small.format, small.size) == ("image/webp", "WEBP", (THUMBNAIL_SIDE, 128))
    assert opened(encode_thumbnail(Image.new("RGB", (64, 32)))[0]).size == (64, 32)  # never made larger
    assert PICTURE.size == (320, 160)
