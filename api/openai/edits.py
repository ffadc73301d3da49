"""OpenAI's edits and variations: a form with pictures, drawn like everything else."""

from __future__ import annotations

import json
import re
from typing import Any

from flask import Blueprint, Response, g, request
from werkzeug.datastructures import FileStorage

from api.auth import needs
from api.docs.answers import OpenAIError
from api.docs.forms import EditForm, VariationForm
from api.docs.operation import documented
from api.errors import InvalidInput, Problem
from api.openai.images import draw, find_model
from api.openai.schemas import EditRequest
from api.parsing.validation import validated
from api.pictures.large_bodies import may_carry_pictures
from api.pictures.sent import PIECE_CHARS, keep_sent, sha256_of
from api.services import services
from storage.access.scopes import Scope
from storage.catalog import MOST_INPUT_IMAGES

blueprint = Blueprint("edits", __name__)

# A variation has no prompt, and a drawing needs one.
VARIATION = "the same picture, slightly different"

NUMBERED_IMAGE = re.compile(r"image\[([0-9]{1,3})\]", re.ASCII)
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?", re.ASCII)
# Of the form's fields, those that are not text.
NUMBERS = (
    "n", "seed", "output_compression", "partial_images", "priority", "num_inference_steps", "guidance_scale",
    "strength", "lora_scale",
)  # fmt: skip
FLAGS = {"true": True, "false": False, "1": True, "0": False}


@blueprint.post("/images/edits")
@documented(
    "Draw from a picture, as OpenAI's clients ask for it",
    {200: None},
    section="OpenAI",
    form=EditForm,
    headers=("Idempotency-Key",),
    errors=(400, 404, 409, 410, 413, 415, 429, 504),
    error=OpenAIError,
    details="The transparent area of `mask` is redrawn. `image[]` may be there several times, for models that look "
    "at several images. All fields of a generation are taken, as text.",
)
@needs(Scope.DRAW)
@may_carry_pictures
def edit() -> Response:
    return _draw(_form())


@blueprint.post("/images/variations")
@documented(
    "Draw a picture like another one",
    {200: None},
    section="OpenAI",
    form=VariationForm,
    headers=("Idempotency-Key",),
    errors=(400, 404, 409, 410, 413, 415, 429, 504),
    error=OpenAIError,
)
@needs(Scope.DRAW)
@may_carry_pictures
def vary() -> Response:
    return _draw({"prompt": VARIATION} | {name: value for name, value in _form().items() if name != "mask"})


def _draw(form: dict[str, Any]) -> Response:
    g.json_body = form  # what an Idempotency-Key stands for
    asked = validated(EditRequest, form)
    return draw(asked, find_model(services(), asked.model, takes="image"))


def _form() -> dict[str, Any]:
    """The form with its values typed, descriptions in place of its pictures. Raises Problem, InvalidInput."""
    if request.mimetype != "multipart/form-data":
        raise Problem(
            415, "Unsupported media type", "the body needs to be multipart/form-data with a file in the field `image`"
        )
    form = {name: _typed(name, value) for name, value in request.form.items() if name not in ("image", "mask")}
    images = _images()
    if not images:
        raise InvalidInput("image", "is required: a file, as a part with a filename")
    if len(images) > MOST_INPUT_IMAGES:
        raise InvalidInput("image", f"{len(images)} images were sent; at most {MOST_INPUT_IMAGES} are taken")
    form["image"] = [_kept(image) for image in images]
    masks = request.files.getlist("mask")
    if len(masks) > 1:
        raise InvalidInput("mask", f"{len(masks)} masks were sent; one is taken")
    if masks:
        form["mask"] = _kept(masks[0], is_alpha_mask=True)
    return form


def _images() -> list[FileStorage]:
    """`image` and `image[]` as they come, then `image[0]`, `image[1]` and so on, as PHP's clients write them."""
    named, numbered = [], []
    for name, part in request.files.items(multi=True):
        if name in ("image", "image[]"):
            named.append(part)
        elif (found := NUMBERED_IMAGE.fullmatch(name)) is not None:
            numbered.append((int(found[1]), part))
    return named + [part for _, part in sorted(numbered, key=lambda each: each[0])]


def _typed(name: str, value: str) -> Any:
    """What a JSON body would say. What can't be read stays text, and the schema says what it should be."""
    if name in NUMBERS and NUMBER.fullmatch(value) is not None and len(value) < 40:
        return float(value) if "." in value else int(value)
    if name == "stream":
        return FLAGS.get(value.lower(), value)
    if name == "metadata":
        try:
            return json.loads(value)
        except (ValueError, RecursionError):
            raise InvalidInput("metadata", "is not a JSON object") from None
    return value


def _kept(part: FileStorage, *, is_alpha_mask: bool = False) -> str:
    size_bytes = 0
    while piece := part.stream.read(PIECE_CHARS):
        size_bytes += len(piece)
    return keep_sent(
        part.stream,
        came_as="form",
        content_type=part.mimetype or "application/octet-stream",
        size_bytes=size_bytes,
        sha256=sha256_of(part.stream),
        is_alpha_mask=is_alpha_mask,
    )
