"""Forms with files, for the documentation: the views read them field by field."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, Field

from api.openai.schemas import ImageRequest

Binary = Annotated[str, Field(json_schema_extra={"format": "binary"})]


class FileForm(BaseModel):
    """A file to upload."""

    content: Binary = Field(description="The file.")
    filename: str | None = Field(default=None, description="Instead of the part's own.")
    type: str | None = Field(default=None, description="Its media type, instead of the part's own.")
    metadata: str | None = Field(default=None, description="Your own: a JSON object.")


class FileAnswer(BaseModel):
    """Replicate's file object. `urls.get` is what an input names; `urls.download` is signed and needs no token."""

    id: str
    name: str
    content_type: str
    size: int = Field(description="bytes")
    etag: str
    checksums: dict[str, str] = Field(description="sha256 and md5, hexadecimal")
    metadata: dict[str, Any]
    created_at: str
    expires_at: str | None
    urls: dict[str, str]


class FilePage(BaseModel):
    """At most 100, newest first."""

    next: str | None
    previous: str | None
    results: list[FileAnswer]


class EditForm(ImageRequest):
    """The fields of a generation as text, with a picture to start from (`image` or `image[]`), or several."""

    image: Binary = Field(description="May be there several times, up to the model's `max_input_images`.")
    mask: Binary | None = Field(default=None, description="Transparent is redrawn.")
    strength: float | None = Field(default=None, gt=0, le=1, description="1: nothing of the image is left.")


class VariationForm(BaseModel):
    """A picture, and the fields of an edit; `prompt` is not needed."""

    image: Binary
    prompt: str | None = None
