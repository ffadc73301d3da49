"""Pictures for tests, and requests with them."""

from __future__ import annotations

import base64
import hashlib
import io
from typing import Any

from PIL import Image

from storage.predictions.object_keys import input_key
from storage.s3.bucket import Bucket
from storage.settings import Settings

CATALOG = """
[models."darkroom/blank"]
engine = "blank"
aliases = ["dall-e-2"]
takes = ["image", "mask"]
defaults = { width = 64, height = 64, num_inference_steps = 4, strength = 0.6 }
limits = { multiple_of = 16, max_steps = 50, max_side = 512, max_pixels = 65536, max_prompt_chars = 100 }

[models."darkroom/blank".loras]
pastel = { source = "pastel.safetensors", scale = 0.8 }
outlined = { source = "outlined.safetensors" }

[models."darkroom/text-only"]
engine = "blank"
version = "2"
defaults = { width = 64, height = 64, num_inference_steps = 4 }
"""


def picture(width: int = 64, height: int = 64, colour: Any = "red", mode: str = "RGB") -> Image.Image:
    return Image.new(mode, (width, height), colour)


def file_of(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, file_format, **options)
    return file.getvalue()


def data_url(data: bytes, content_type: str = "image/png") -> str:
    return f"data:{content_type};base64,{base64.b64encode(data).decode()}"


def stored_picture(bucket: Bucket, settings: Settings, sha256: str) -> Image.Image:
    """The picture that a prediction starts from, as its worker reads it; its bytes are those of the hash."""
    data = b"".join(bucket.open(input_key(settings.s3_prefix, sha256)).chunks)
    assert hashlib.sha256(data).hexdigest() == sha256
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
