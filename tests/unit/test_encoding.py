"""Pictures as files: the parameters in them as image tools read them, and the thumbnail."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from storage.formats import FORMATS, ImageFormat, format_named
from storage.predictions.parameters import Lora, Parameters
from worker.publish.encoding import MAX_COMMENT_BYTES, THUMBNAIL_SIDE, describe, encode, encode_thumbnail

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
TEXT = describe(PARAMETERS, 1, model="darkroom/blank", version="1", sampler="FlowMatchEulerDiscreteScheduler")


def opened(body: bytes) -> Any:
    return Image.open(io.BytesIO(body))


def comment_in(body: bytes) -> str:
    comment = opened(body).getexif().get_ifd(0x8769)[0x9286]
    assert comment[:8] == b"UNICODE\0"
    return str(comment[8:].decode("utf-16-be"))


def test_the_description_is_what_a1111_writes() -> None:
    assert TEXT == (
        "a red circle,\non “snow” 雪\n"
        "Negative prompt: blue\n"
        "Steps: 8, Sampler: FlowMatchEulerDiscreteScheduler, CFG scale: 0, Seed: 0, Size: 320x160, "
        "Model: darkroom/blank, Version: 1"
    )
    without = describe(PARAMETERS, 1, model="darkroom/blank", version="1")
    assert "Steps: 8, CFG scale: 0, Seed: 0" in without
    edited = describe(replace(PARAMETERS, image="a hash", strength=0.6), 1, model="darkroom/blank", version="1")
    assert "CFG scale: 0, Denoising strength: 0.6, Seed: 0" in edited


def test_the_description_names_loras_as_a1111_does() -> None:
    loras = (Lora("outlined", 0.7), Lora("https://example.com/x/pastel-v2.safetensors?key=secret", -1.0))
    text = describe(replace(PARAMETERS, loras=loras), 1, model="darkroom/blank", version="1")
    assert text.startswith(
        "a red circle,\non “snow” 雪 <lora:outlined:0.7> <lora:pastel-v2:-1>\nNegative prompt: blue\n"
    )


@pytest.mark.parametrize("format_", FORMATS, ids=lambda format_: format_.name)
def test_every_format_is_what_its_line_in_the_table_says(format_: ImageFormat) -> None:
    body, content_type = encode(PICTURE, replace(PARAMETERS, output_format=format_.name), text=TEXT)
    found = opened(body)
    assert content_type == format_.content_type == Image.MIME[found.format]
    assert found.format == format_.pillow
    assert found.size == PICTURE.size
    assert (found.tobytes() != PICTURE.tobytes()) == format_.is_lossy
    assert (found.text["parameters"] if format_.name == "png" else comment_in(body)) == TEXT


def test_a_png_carries_it_as_its_parameters_chunk() -> None:
    body, content_type = encode(PICTURE, PARAMETERS, text=TEXT)
    assert content_type == "image/png"
    assert opened(body).text["parameters"] == TEXT


@pytest.mark.parametrize("format_", ["jpg", "webp"])
def test_jpeg_and_webp_carry_it_as_the_exif_user_comment(format_: str) -> None:
    body, _ = encode(PICTURE, replace(PARAMETERS, output_format=format_), text=TEXT)
    assert comment_in(body) == TEXT


@pytest.mark.parametrize("format_", ["png", "jpg", "webp"])
def test_nothing_is_written_where_it_is_turned_off(format_: str) -> None:
    body, _ = encode(PICTURE, replace(PARAMETERS, output_format=format_))
    assert not opened(body).getexif()
    assert not getattr(opened(body), "text", {})
    assert b"red circle" not in body


LONGEST = MAX_COMMENT_BYTES // 2  # characters of two bytes that an EXIF comment holds


@pytest.mark.parametrize("format_", ["jpg", "webp"])
@pytest.mark.parametrize(
    ("prompt", "negative_prompt"),
    [
        ("😀" * 20_000, ""),
        ("x" + "😀" * 20_000, ""),  # the cut falls into the middle of a surrogate pair
        ("雪" * 200_000, ""),
        ("a red circle", "😀" * 20_000),
        ("line\n" * 20_000, "blue"),
        ("\N{COMBINING ACUTE ACCENT}" * 40_000, ""),
    ],
)
def test_a_prompt_that_is_longer_than_exif_allows_is_cut_and_the_line_of_the_seed_is_not(
    format_: str, prompt: str, negative_prompt: str
) -> None:
    asked = replace(PARAMETERS, prompt=prompt, negative_prompt=negative_prompt, output_format=format_)
    text = describe(asked, 1, model="darkroom/blank", version="1")
    body, _ = encode(PICTURE, asked, text=text)
    comment = comment_in(body)
    prompts, _, last_line = comment.rpartition("\n")
    assert last_line == text.rpartition("\n")[2]
    assert "Seed: 0" in last_line
    assert prompts.endswith("…")
    assert text.startswith(prompts.removesuffix("…"))
    assert MAX_COMMENT_BYTES - 4 < len(comment.encode("utf-16-be")) <= MAX_COMMENT_BYTES


@pytest.mark.parametrize("format_", ["jpg", "webp"])
def test_a_description_that_just_fits_is_not_cut(format_: str) -> None:
    asked = replace(PARAMETERS, prompt="", negative_prompt="", output_format=format_)
    rest = len(describe(asked, 1, model="darkroom/blank", version="1"))
    for over in (0, 1):
        text = describe(replace(asked, prompt="x" * (LONGEST - rest + over)), 1, model="darkroom/blank", version="1")
        assert (comment_in(encode(PICTURE, asked, text=text)[0]) == text) == (over == 0)


def test_a_png_holds_a_prompt_of_any_length() -> None:
    text = describe(replace(PARAMETERS, prompt="😀" * 20_000), 1, model="darkroom/blank", version="1")
    assert opened(encode(PICTURE, PARAMETERS, text=text)[0]).text["parameters"] == text


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize("format_", ["jpg", "webp"])
def test_the_longest_side_that_the_api_lets_through_can_be_encoded_and_one_more_can_not(
    format_: str, upright: bool
) -> None:
    asked = replace(PARAMETERS, output_format=format_)
    longest = format_named(format_).max_side
    assert longest is not None
    for side, fits in ((longest, True), (longest + 1, False)):
        image = Image.new("RGB", (8, side) if upright else (side, 8), (1, 200, 3))
        small = opened(encode_thumbnail(image)[0])
        assert sorted(small.size) == [1, THUMBNAIL_SIDE]
        if fits:
            found = opened(encode(image, asked, text=TEXT)[0])
            found.load()
            assert found.size == image.size
        else:
            with pytest.raises((OSError, ValueError)):
                encode(image, asked, text=TEXT)


def test_a_png_holds_sides_that_the_other_formats_can_not() -> None:
    image = Image.new("RGB", ((format_named("jpg").max_side or 0) + 1, 8))
    assert opened(encode(image, PARAMETERS, text=TEXT)[0]).size == image.size


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
