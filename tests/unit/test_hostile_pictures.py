"""Pictures of strangers: each is refused with its reason, or becomes a plain PNG."""

from __future__ import annotations

import io
from contextlib import closing

import pytest
from PIL import Image, ImageCms

from api.pictures.decode import NotAPicture, Picture
from tests.hostile_pictures import MAX_PIXELS, Hostile, hostile_pictures
from tests.pictures import file_of, picture

# Pillow warns of broken metadata, and reads on.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

PICTURES = hostile_pictures()


def plain(data: bytes, width: int = 256, height: int = 256) -> Image.Image:
    with closing(Picture(io.BytesIO(data), max_pixels=MAX_PIXELS).stored(width, height).file) as file:
        image = Image.open(file)
        image.load()
        return image


def test_there_are_at_least_forty_and_each_has_its_own_name() -> None:
    assert len({each.name for each in PICTURES}) == len(PICTURES) >= 40


@pytest.mark.parametrize("sent", PICTURES, ids=lambda each: each.name)
def test_a_hostile_picture_is_refused_with_its_reason_or_becomes_a_plain_one(sent: Hostile) -> None:
    if sent.words:
        with pytest.raises(NotAPicture, match=sent.words):
            plain(sent.data)
        return
    image = plain(sent.data)
    assert (image.format, image.mode) == ("PNG", "RGB")
    assert set(image.info) == set(), "nothing of its metadata is kept"
    if sent.pixel is not None:
        assert image.getpixel((1, 1)) == sent.pixel
    if sent.size is not None:
        assert image.size == sent.size


def test_a_picture_is_turned_as_its_exif_says() -> None:
    [turned] = [each for each in PICTURES if each.name == "turned by 90 degrees"]
    image = plain(turned.data)
    left, right = image.getpixel((5, 30)), image.getpixel((120, 30))
    assert left == pytest.approx((0, 128, 0), abs=8), "what was below is at the left"
    assert right == pytest.approx((255, 0, 0), abs=8)


def profile(*, swapped: bool = True) -> bytes:
    """An ICC profile for RGB, in which what is called red is green, and green is red."""
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    table, rest = data[: 128 + 4 + 12 * 30], data[128 + 4 + 12 * 30 :]
    if swapped:
        table = table.replace(b"rXYZ", b"tmp ").replace(b"gXYZ", b"rXYZ").replace(b"tmp ", b"gXYZ")
    return (table + rest).replace("sRGB".encode("utf-16-be"), "test".encode("utf-16-be"))


@pytest.mark.parametrize(
    ("file_format", "mode"), [("PNG", "RGB"), ("PNG", "RGBA"), ("PNG", "P"), ("JPEG", "RGB"), ("WEBP", "RGB")]
)
def test_the_colours_are_those_of_the_profile_that_a_picture_comes_with(file_format: str, mode: str) -> None:
    red = Image.new("RGB", (64, 64), (204, 51, 51)).convert(mode)
    given = plain(file_of(red, file_format, icc_profile=profile()))
    assert given.getpixel((9, 9)) == pytest.approx((51, 204, 51), abs=12)
    assert set(given.info) == set(), "no profile is kept: the same picture always has the same SHA-256"
    unnamed = plain(file_of(red, file_format, icc_profile=profile(swapped=False)))
    assert unnamed.getpixel((9, 9)) == pytest.approx((204, 51, 51), abs=8)


@pytest.mark.parametrize(
    "broken", [b"not a profile", profile()[:200], profile()[:-40], b"", profile().replace(b"RGB XYZ ", b"CMYKXYZ ")]
)
def test_a_profile_that_can_not_be_used_is_left_out(broken: bytes) -> None:
    data = file_of(Image.new("RGB", (64, 64), (200, 40, 40)), "JPEG", icc_profile=broken, quality=95)
    assert plain(data).getpixel((9, 9)) == pytest.approx((200, 40, 40), abs=8)
    cmyk = file_of(Image.new("CMYK", (64, 64), (0, 255, 255, 0)), "JPEG", icc_profile=broken, quality=95)
    assert plain(cmyk).getpixel((9, 9)) == pytest.approx((254, 0, 0), abs=8)


def test_a_picture_is_stored_with_at_most_twice_the_sides_of_the_drawing() -> None:
    data = file_of(picture(900, 600))
    assert plain(data, 100, 100).size == (300, 200)
    assert plain(data, 448, 100).size == (896, 598)
    assert plain(data, 512, 512).size == (900, 600)


@pytest.mark.parametrize("file_format", ["PNG", "JPEG", "WEBP"])
def test_every_beginning_of_a_file_is_refused_or_read(file_format: str) -> None:
    data = file_of(Image.effect_noise((24, 24), 60).convert("RGB"), file_format)
    for length in range(0, len(data), 7):
        try:
            plain(data[:length])
        except NotAPicture:
            continue


def test_every_changed_byte_is_refused_or_read() -> None:
    for file_format in ("PNG", "JPEG", "WEBP"):
        data = file_of(
            Image.effect_noise((24, 24), 60).convert("RGB"), file_format, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"
        )
        for at in range(0, min(len(data), 600), 5):
            changed = data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]
            try:
                plain(changed)
            except NotAPicture:
                continue
