"""The file formats of images: what the API accepts, the worker writes, and links and the bucket name.

To add one, add a line to `FORMATS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class ImageFormat:
    """`pillow` and `save_options` are what Pillow's `Image.save` takes."""

    name: str  # in `output_format`, and the extension of its files
    content_type: str
    pillow: str
    is_lossy: bool  # it takes `output_quality`
    max_side: int | None = None  # the longest side in pixels that a file can hold; None: none that matters
    aliases: tuple[str, ...] = ()
    save_options: Mapping[str, object] = field(default_factory=dict)

    @property
    def openai_name(self) -> str:
        """OpenAI's API names formats after their MIME types."""
        return self.content_type.removeprefix("image/")


FORMATS = (
    # 6, the default level, takes twice as long and saves 2 %.
    ImageFormat("png", "image/png", "PNG", is_lossy=False, save_options={"compress_level": 4}),
    ImageFormat("jpg", "image/jpeg", "JPEG", is_lossy=True, max_side=65_500, aliases=("jpeg",)),  # libjpeg's limit
    ImageFormat("webp", "image/webp", "WEBP", is_lossy=True, max_side=16_383),  # libwebp's limit
)

NAMES = tuple(name for known in FORMATS for name in (known.name, *known.aliases))
OPENAI_NAMES = tuple(known.openai_name for known in FORMATS)
_BY_NAME = {name: known for known in FORMATS for name in (known.name, *known.aliases)}
_BY_CONTENT_TYPE = {known.content_type: known for known in FORMATS}

DEFAULT = FORMATS[0]
PNG = _BY_NAME["png"]
WEBP = _BY_NAME["webp"]  # of thumbnails and previews
THUMBNAIL_EXTENSION = f"thumbnail.{WEBP.name}"


def format_named(name: str) -> ImageFormat:
    """By its name or an alias."""
    return _BY_NAME[name]


def extension_of(content_type: str) -> str:
    """The extension of files of that type, without a dot."""
    return _BY_CONTENT_TYPE[content_type].name
