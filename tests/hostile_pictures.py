"""Files that somebody may send as a picture: broken, of other types, much larger than they look, or odd."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property

from PIL import Image

from tests.pictures import file_of, picture

MAX_PIXELS = 1_000_000  # that the test's API takes


@dataclass(frozen=True)
class Hostile:
    """`words`: what the refusal says; empty: it is taken. `pixel`: what it shows at (1, 1) then.

    `content`: the file, or what makes it. A bomb takes a second, and every process of the tests reads this list.
    """

    name: str
    content: bytes | Callable[[], bytes]
    words: str = ""
    pixel: tuple[int, int, int] | None = None
    size: tuple[int, int] | None = None

    @cached_property
    def data(self) -> bytes:
        return self.content if isinstance(self.content, bytes) else self.content()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, pixels: bytes, *more: bytes, colour_type: int = 2, depth: int = 8) -> bytes:
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    body = b"".join(more) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + body


def rotated(orientation: int) -> bytes:
    """Red above, green below, to be turned by whoever shows it."""
    image = picture(64, 128, "green")
    image.paste("red", (0, 0, 64, 64))
    exif = Image.Exif()
    exif[0x0112] = orientation
    return file_of(image, "JPEG", exif=exif.tobytes(), quality=95, subsampling=0)


def animated(file_format: str) -> bytes:
    frames = [picture(16, 16, colour) for colour in ("red", "green", "blue")]
    return file_of(frames[0], file_format, save_all=True, append_images=frames[1:], duration=100)


def many_scans() -> bytes:
    """A JPEG that is decoded again and again: its last scan, several thousand times."""
    data = file_of(picture(256, 256), "JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * 2000 + data[-2:]


def grey16(value: int) -> bytes:
    return png(8, 8, (b"\0" + struct.pack(">H", value) * 8) * 8, colour_type=0, depth=16)


def of_many_types() -> list[Hostile]:
    """What Pillow reads and we don't take, and what is no picture at all."""
    return [
        Hostile("gif", file_of(picture(), "GIF"), "is a GIF file"),
        Hostile("animated gif", animated("GIF"), "is a GIF file"),
        Hostile("bmp", file_of(picture(), "BMP"), "is a BMP file"),
        Hostile("tiff", file_of(picture(), "TIFF"), "is a TIFF file"),
        Hostile("ico", file_of(picture(), "ICO"), "can't be read"),
        Hostile("ppm", file_of(picture(), "PPM"), "can't be read"),
        Hostile("tga", file_of(picture(), "TGA"), "can't be read"),
        Hostile("pdf", file_of(picture(), "PDF"), "is a PDF file"),
        Hostile("svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>1</script></svg>', "is an SVG file"),
        Hostile("svg after xml", b'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "b">]><svg/>', "is an SVG file"),
        Hostile("eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run", "can't be read"),
        Hostile("html", b"<!DOCTYPE html><script>alert(1)</script>", "is an HTML file"),
        Hostile("avif", b"\0\0\0\x1cftypavif" + b"\0" * 64, "is an AVIF file"),
        Hostile("heic", b"\0\0\0\x18ftypheic" + b"\0" * 64, "is a HEIC file"),
        Hostile("zip", b"PK\x03\x04" + b"\0" * 64, "can't be read"),
        Hostile("elf", b"\x7fELF" + b"\0" * 64, "can't be read"),
        Hostile("text", b"a red circle", "can't be read"),
        Hostile("zeros", b"\0" * 4096, "can't be read"),
        Hostile("empty", b"", "is empty"),
    ]


def broken() -> list[Hostile]:
    red_png, red_jpeg, red_webp = (file_of(picture(), each) for each in ("PNG", "JPEG", "WEBP"))
    rubbish = png(8, 8, b"").replace(zlib.compress(b""), b"\xff" * 8)
    noise = Image.effect_noise((128, 128), 80).convert("RGB")
    return [
        Hostile("png signature alone", red_png[:8], "can't be read"),
        Hostile("png without pixels", red_png[:33], "can't be read"),
        Hostile("png cut in its pixels", file_of(noise)[:2000], "broken or incomplete"),
        Hostile("png with a wrong checksum", red_png[:29] + b"\xff" * 4 + red_png[33:], "can't be read"),
        Hostile("png with rubbish as pixels", rubbish, "broken or incomplete"),
        Hostile("jpeg cut", file_of(noise, "JPEG")[:1500], "broken or incomplete"),
        Hostile("jpeg head alone", red_jpeg[:20], "can't be read"),
        Hostile("webp cut", red_webp[: len(red_webp) // 2], "can't be read"),
        Hostile("webp of no size", b"RIFF\x04\0\0\0WEBP", "can't be read"),
        Hostile("png of 0 pixels", png(0, 0, b""), "can't be read"),
        Hostile("png of no height", png(8, 0, b""), "can't be read"),
    ]


def bombs() -> list[Hostile]:
    return [
        Hostile("png of 30,000 x 30,000 in a few kB", wide_bomb, "pixels"),
        Hostile("png that says 2^31 - 1 pixels a side", png(2**31 - 1, 2**31 - 1, b"\0" * 64), "pixels"),
        Hostile("jpeg that says 65,500 a side", resized_jpeg(65_500, 65_500), "pixels"),
        Hostile("jpeg with thousands of scans", many_scans, "more than 64 scans"),
        Hostile("png with a text bomb", text_bomb, "can't be read"),
        Hostile("png with a profile bomb", profile_bomb, "can't be read"),
        Hostile("animated png", animated("PNG"), "is animated"),
        Hostile("animated webp", animated("WEBP"), "is animated"),
    ]


def resized_jpeg(width: int, height: int) -> bytes:
    """A JPEG of 64 x 64 whose head says another size."""
    data = bytearray(file_of(picture(), "JPEG"))
    at = data.index(b"\xff\xc0")
    data[at + 5 : at + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def wide_bomb() -> bytes:
    row = b"\0" + b"\0" * 3750
    return png(30_000, 30_000, row * 30_000, colour_type=0, depth=1)


def text_bomb() -> bytes:
    text = chunk(b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 60_000_000, 9))
    return png(8, 8, bytes(25) * 8, text)


def profile_bomb() -> bytes:
    profile = chunk(b"iCCP", b"icc\0\0" + zlib.compress(b"a" * 60_000_000, 9))
    return png(8, 8, bytes(25) * 8, profile)


def odd() -> list[Hostile]:
    """What is odd, and can be drawn from all the same."""
    red = file_of(picture())
    half = picture(8, 8, (255, 0, 0, 0), "RGBA")
    comment = b"\xff\xfe" + struct.pack(">H", 60_002) + b"<script>alert(1)</script>".ljust(60_000)
    jpeg = file_of(picture(), "JPEG", quality=95)
    return [
        Hostile("png with a zip behind", red + b"PK\x03\x04" + b"\0" * 2000, "", (255, 0, 0)),
        Hostile("png with html behind", red + b"<script>alert(1)</script>", "", (255, 0, 0)),
        Hostile("jpeg with a script in its comment", jpeg[:2] + comment + jpeg[2:], "", (254, 0, 0)),
        Hostile("grey of 16 bits", grey16(0x8000), "", (128, 128, 128)),
        Hostile("grey of 16 bits, white", grey16(0xFFFF), "", (255, 255, 255)),
        Hostile("colours of 16 bits", png(8, 8, (b"\0" + b"\xff\xff\0\0\0\0" * 8) * 8, depth=16), "", (255, 0, 0)),
        Hostile("cmyk", file_of(picture(64, 64, (0, 255, 255, 0), "CMYK"), "JPEG", quality=95), "", (255, 0, 0)),
        Hostile("palette", file_of(picture().convert("P")), "", (255, 0, 0)),
        Hostile("black and white", file_of(picture(8, 8, 1, "1")), "", (255, 255, 255)),
        Hostile("transparent", file_of(half), "", (255, 255, 255)),
        Hostile("turned by 90 degrees", rotated(6), "", None, (128, 64)),
        Hostile("turned by a number that is none", rotated(77), "", None, (64, 128)),
        Hostile(
            "broken exif", file_of(picture(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\x7f" + b"\xff" * 30), "", None
        ),
        Hostile("one pixel", file_of(picture(1, 1)), "", None, (1, 1)),
        Hostile("30,000 x 20", file_of(picture(30_000, 20)), "", (255, 0, 0)),
        Hostile("webp without loss", file_of(picture(), "WEBP", lossless=True), "", (255, 0, 0)),
    ]


@cache
def hostile_pictures() -> list[Hostile]:
    return [*of_many_types(), *broken(), *bombs(), *odd()]
