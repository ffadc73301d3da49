"""The colours of a picture as sRGB, in which models draw: a file may come with a colour profile of its own."""

from __future__ import annotations

import io

import structlog
from PIL import Image, ImageCms

log = structlog.get_logger(__name__)

MAX_PROFILE_BYTES = 4 * 1024 * 1024  # printers' profiles for CMYK have up to two or three
# Mode → the mode after conversion. Grey pictures are left alone: they hardly ever have a profile that matters.
CONVERTED = {"RGB": "RGB", "RGBA": "RGBA", "CMYK": "RGB"}


def in_srgb(image: Image.Image, profile: object) -> Image.Image:
    """The picture converted from its ICC profile (`image.info["icc_profile"]`) to sRGB.

    As it is if there is no profile, or none that fits its mode or can be read: it can still be drawn from.
    """
    if not isinstance(profile, bytes) or not 0 < len(profile) <= MAX_PROFILE_BYTES or image.mode not in CONVERTED:
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != image.mode.removesuffix("A") or _is_srgb(source):
            return image
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(
            image, source, srgb, ImageCms.Intent.RELATIVE_COLORIMETRIC, outputMode=CONVERTED[image.mode]
        )
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        log.info("picture.profile_not_used", reason=f"{type(error).__name__}: {error}"[:200])
        return image
    assert converted is not None  # it is None only if the picture is changed in place
    return converted


def _is_srgb(profile: ImageCms.ImageCmsProfile) -> bool:
    """By its name, as encoders write it: converting would only round every colour once more."""
    return "sRGB" in ImageCms.getProfileDescription(profile)
