"""Encodes images as files in the requested format, with their parameters inside, and makes thumbnails."""

from __future__ import annotations

import io
from pathlib import PurePosixPath
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from storage.formats import PNG, WEBP, format_named
from storage.predictions.parameters import Lora, Parameters
from worker.publish.provenance import XMP

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.PngImagePlugin import PngInfo

THUMBNAIL_SIDE = 256  # pixels, at most
THUMBNAIL_QUALITY = 75

EXIF_IFD = 0x8769
USER_COMMENT = 0x9286
# A JPEG's EXIF block holds 65,533 bytes. Pillow adds about 60 of its own to the comment.
MAX_COMMENT_BYTES = 65_000
UTF_16 = "utf-16-be"


def encode(image: Image, parameters: Parameters, *, text: str | None = None, marked: bool = False) -> tuple[bytes, str]:
    """The bytes of an image in the format that was asked for, and their content type.

    `marked`: the file says that a model made it (`provenance.py`). `text` is written into the file where image tools
    look for generation parameters: the `parameters` chunk of a PNG, the EXIF UserComment of the other formats.
    """
    buffer = io.BytesIO()
    format_ = format_named(parameters.output_format)
    options: dict[str, object] = dict(format_.save_options)
    if format_.is_lossy:
        options["quality"] = parameters.output_quality
    if format_ is PNG:
        options["pnginfo"] = _chunks(text, marked=marked)
    else:
        options |= ({} if text is None else {"exif": _comment(text)}) | ({"xmp": XMP.encode()} if marked else {})
    image.save(buffer, format_.pillow, **options)
    return buffer.getvalue(), format_.content_type


def encode_thumbnail(image: Image, *, marked: bool = False) -> tuple[bytes, str]:
    """A WebP that fits into THUMBNAIL_SIDE squared, a few kB, and its content type."""
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, WEBP.pillow, quality=THUMBNAIL_QUALITY, **({"xmp": XMP.encode()} if marked else {}))
    return buffer.getvalue(), WEBP.content_type


def describe(parameters: Parameters, index: int, *, model: str, version: str, sampler: str = "") -> str:
    """How image `index` was made, in the lines that A1111 writes and that galleries and ComfyUI read.

    `sampler` is the name of the scheduler; empty if there is none.
    """
    lines = [" ".join([parameters.prompt, *map(_lora_tag, parameters.loras)])]
    if parameters.negative_prompt:
        lines.append(f"Negative prompt: {parameters.negative_prompt}")
    lines.append(
        f"Steps: {parameters.num_inference_steps}, {f'Sampler: {sampler}, ' if sampler else ''}"
        f"CFG scale: {parameters.guidance_scale:g}, "
        f"{f'Denoising strength: {parameters.strength:g}, ' if parameters.image else ''}"
        f"Seed: {parameters.seed_of(index)}, Size: {parameters.width}x{parameters.height}, "
        f"Model: {model}, Version: {version}"
    )
    return "\n".join(lines)


def _lora_tag(lora: Lora) -> str:
    """Of a URL only the file's name, as A1111 knows LoRAs: its query may hold a key."""
    name = PurePosixPath(urlsplit(lora.name).path).stem if "://" in lora.name else lora.name
    return f"<lora:{name}:{lora.scale:g}>"


def _chunks(text: str | None, *, marked: bool) -> PngInfo:
    from PIL.PngImagePlugin import PngInfo

    chunks = PngInfo()
    if marked:
        chunks.add_itxt("XML:com.adobe.xmp", XMP)
    if text is not None:
        chunks.add_text("parameters", text)  # iTXt where it is not Latin-1
    return chunks


def _comment(text: str) -> bytes:
    """EXIF with a UserComment: eight bytes that name the encoding, then UTF-16, which the readers expect."""
    from PIL.Image import Exif

    exif = Exif()
    exif.get_ifd(EXIF_IFD)[USER_COMMENT] = b"UNICODE\0" + fit(text, MAX_COMMENT_BYTES).encode(UTF_16)
    return exif.tobytes()  # an Exif object does for JPEG and WebP, but a TIFF leaves its inner IFDs out


def fit(text: str, max_bytes: int) -> str:
    """Cut a description so that it takes at most `max_bytes` in UTF-16.

    The prompts are cut. The last line, which says steps, seed and model, stays whole: with it and the original prompt
    the picture can be drawn again.
    """
    if len(text.encode(UTF_16)) <= max_bytes:
        return text
    prompts, _, last_line = text.rpartition("\n")
    end = f"…\n{last_line}".encode(UTF_16)
    kept = prompts.encode(UTF_16)[: max(0, max_bytes - len(end)) // 2 * 2]
    return kept.decode(UTF_16, errors="ignore") + end.decode(UTF_16)  # "ignore": half of a surrogate pair
