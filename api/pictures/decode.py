"""Decodes an untrusted image and encodes it again as PNG, turned upright and without metadata."""

from __future__ import annotations

import math
import mmap
import re
import zlib
from dataclasses import dataclass
from typing import IO, Any, Literal

import structlog
from PIL import Image, ImageFile

from api.pictures.colours import in_srgb
from api.pictures.cropping import Kept
from api.pictures.sent import sha256_of, spooled

log = structlog.get_logger(__name__)

# The API checks its own limit as soon as it knows the size, before it decodes a pixel. Pillow's limit is another one.
Image.MAX_IMAGE_PIXELS = None
FORMATS = ("PNG", "JPEG", "WEBP")
# Each scan of a JPEG costs as much time as decoding the whole image, but only a few bytes. Encoders write about ten.
MAX_JPEG_SCANS = 64
# Decoded, converted, and turned or laid on a ground: four bytes a pixel each (Pillow's RGB has four, too).
BYTES_A_PIXEL = 12
# A picture is stored with at most so many times the sides of what is drawn from it: the rest would be shrunk away.
MAX_SIDES = 2
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
OTHERS = (
    (re.compile(rb"GIF8"), "GIF"),
    (re.compile(rb"BM"), "BMP"),
    (re.compile(rb"(II\*\0|MM\0\*)"), "TIFF"),
    (re.compile(rb".{4}ftyp(avif|avis)", re.DOTALL), "AVIF"),
    (re.compile(rb".{4}ftyp(hei[cfx]|mif1|msf1)", re.DOTALL), "HEIC"),
    (re.compile(rb"%PDF"), "PDF"),
    (re.compile(rb"\s*(<\?xml.*)?<svg", re.DOTALL | re.IGNORECASE), "SVG"),
    (re.compile(rb"\s*<(!doctype|html)", re.IGNORECASE), "HTML"),
)
ARTICLES = {"AVIF": "an", "SVG": "an", "HTML": "an"}
# As small as level 6 and twice as quick (bench/input_images.py). WebP without loss is quicker still, but holds at most
# 16,383 pixels a side and no single channel.
PNG_OPTIONS: dict[str, Any] = {"compress_level": 1, "compress_type": zlib.Z_RLE}

MaskIs = Literal["white", "transparent"]
NOT_TRANSPARENT = "has no transparent area: that is where the image is redrawn"


class NotAPicture(Exception):
    """The bytes are not a usable image. The message says why."""


@dataclass(frozen=True)
class StoredPicture:
    """A PNG file with its hash, its size, and whether it marks anything as a mask."""

    file: IO[bytes]
    sha256: str  # of the file, hexadecimal
    size_bytes: int
    marks_something: bool = True  # False: a mask that is black in all that is drawn


class Picture:
    """A picture whose size is known, and whose pixels are not read yet. `size`: (width, height), turned upright."""

    def __init__(self, file: IO[bytes], *, max_pixels: int) -> None:
        """Raises NotAPicture."""
        self._image = _open(file)
        width, height = self._image.size
        if not 0 < width * height <= max_pixels:
            raise NotAPicture(
                f"has {width}x{height} = {width * height} pixels; from 1 to {max_pixels} are taken"
                " (MAX_INPUT_IMAGE_PIXELS)"
            )
        self._orientation = _orientation_of(self._image)
        self.size = (height, width) if self._orientation in (5, 6, 7, 8) else (width, height)

    @property
    def memory_bytes(self) -> int:
        """What `stored` takes at most."""
        width, height = self.size
        return width * height * BYTES_A_PIXEL

    @property
    def may_be_transparent(self) -> bool:
        return self._image.has_transparency_data

    def stored(self, width: int, height: int, *, mask: MaskIs | None = None, kept: Kept = Kept()) -> StoredPicture:  # noqa: B008 (frozen)
        """Decode it and write it anew, for a drawing of that size: RGB, or with `mask` one channel.

        In a mask white is redrawn: white as it came, or what was transparent. Of the rest of a picture than `kept`
        nothing is drawn. Raises NotAPicture.
        """
        try:
            pixels = self._pixels(width, height, mask)
        except MemoryError:
            raise
        except Exception as error:  # Pillow's decoders raise a dozen types for broken files
            log.info("picture.broken", reason=f"{type(error).__name__}: {error}"[:200])
            raise NotAPicture("is broken or incomplete: it can't be decoded") from None
        if mask == "transparent" and pixels.getbbox() is None:
            raise NotAPicture(NOT_TRANSPARENT)
        marks_something = not mask or pixels.crop(kept.box(*pixels.size)).getbbox() is not None
        file = spooled()
        pixels.save(file, "PNG", icc_profile=None, **PNG_OPTIONS)  # littlecms puts the time of day into its profiles
        size_bytes = file.tell()
        file.seek(0)
        return StoredPicture(file, sha256_of(file), size_bytes, marks_something)

    def _pixels(self, width: int, height: int, mask: MaskIs | None) -> Image.Image:
        if self._orientation in (5, 6, 7, 8):
            width, height = height, width
        # A JPEG is decoded at a half, a quarter or an eighth of its size where that is enough.
        self._image.draft(self._image.mode, (MAX_SIDES * width, MAX_SIDES * height))
        self._image.load()
        # CMYK is made RGB by its profile, if it has one that can be read.
        image = self._image if self._image.mode == "CMYK" and not mask else _plain(self._image)
        image = _shrunk(image, MAX_SIDES * width, MAX_SIDES * height)
        if not mask:
            image = _plain(in_srgb(image, self._image.info.get("icc_profile")))
        turn = TURNS.get(self._orientation)
        return _channels(image if turn is None else image.transpose(turn), mask)


def _open(file: IO[bytes]) -> ImageFile.ImageFile:
    file.seek(0)
    begin = file.read(400)
    file.seek(0)
    if not begin:
        raise NotAPicture("is empty")
    if begin.startswith(b"\xff\xd8") and _scans_of(file) > MAX_JPEG_SCANS:
        raise NotAPicture(f"is a JPEG with more than {MAX_JPEG_SCANS} scans")
    try:
        image = Image.open(file, formats=FORMATS)
        is_animated = image.format != "MPO" and getattr(image, "n_frames", 1) > 1  # MPO: a JPEG with more views
    except MemoryError:
        raise
    except Exception as error:  # Pillow raises a dozen types for broken files
        log.info("picture.not_read", reason=f"{type(error).__name__}: {error}"[:200])
        other = next((name for pattern, name in OTHERS if pattern.match(begin)), None)
        what = f"is {ARTICLES.get(other, 'a')} {other} file" if other else "can't be read"
        raise NotAPicture(f"{what}: PNG, JPEG and WebP are taken") from None
    if is_animated:
        raise NotAPicture("is animated: send one frame of it")
    return image


def _scans_of(file: IO[bytes]) -> int:
    """How many scans a JPEG has, or a little more: pictures in its metadata count, too."""
    number, found = 0, -1
    try:
        data: mmap.mmap | bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except (OSError, ValueError):
        data = file.read()
        file.seek(0)
    while number <= MAX_JPEG_SCANS and (found := data.find(b"\xff\xda", found + 1)) >= 0:
        number += 1
    if isinstance(data, mmap.mmap):
        data.close()
    return number


def _orientation_of(image: Image.Image) -> int:
    """As the file's head says. `getexif` would decode a PNG, and hide it if that fails."""
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
        found = exif.get(ORIENTATION, 1)
    except Exception as error:  # as above; the picture is used all the same, as it lies
        log.info("picture.exif_not_read", reason=f"{type(error).__name__}: {error}"[:200])
        return 1
    return found if isinstance(found, int) else 1


def _plain(image: Image.Image) -> Image.Image:
    """Eight bits a channel, without a palette."""
    if image.mode.startswith("I"):  # 16 bits of grey; Pillow would cut off what is above 255
        return image.point(lambda value: value * (1 / 256)).convert("L")
    if image.has_transparency_data:
        return image if image.mode == "RGBA" else image.convert("RGBA")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _shrunk(image: Image.Image, width: int, height: int) -> Image.Image:
    """As small as its shape allows while no side is below these; never larger than it is."""
    scale = max(width / image.width, height / image.height)
    if scale >= 1:
        return image
    smaller = (math.ceil(image.width * scale), math.ceil(image.height * scale))
    return image.resize(smaller, Image.Resampling.LANCZOS, reducing_gap=3.0)


def _channels(image: Image.Image, mask: MaskIs | None) -> Image.Image:
    """One channel for a mask, else RGB; what is transparent lies on white, or for a white mask on black."""
    mode = "L" if mask else "RGB"
    if mask == "transparent":
        return image.convert("RGBA").getchannel("A").point(lambda value: 255 - value)
    if image.mode != "RGBA":
        return image.convert(mode)
    ground = Image.new("RGB", image.size, "black" if mask else "white")
    ground.paste(image, mask=image.getchannel("A"))
    return ground.convert(mode)
