"""What OpenAI's clients get for their pictures: links, base64, or both, and what was used.

Base64 is made while it is sent, piece by piece: ten large images take no more memory than one small one.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Sequence
from math import ceil
from typing import Any

from api.files.stored_file import open_file
from api.live.sse import compact
from api.live.watch import Snapshot
from api.openai.schemas import ImageRequest
from api.services import Services
from storage.catalog import Model
from storage.formats import DEFAULT
from storage.postgres.database import Row
from storage.predictions.read import StoredFile
from storage.predictions.render import dump
from storage.s3.bucket import StoredObject

BYTES_A_TEXT_TOKEN = 4


def answer(here: Services, asked: ImageRequest, model: Model, snapshot: Snapshot) -> tuple[Iterator[bytes], int]:
    """The body of a JSON answer, and its length in bytes.

    The first image is opened at once: raises Problem where its bytes are lost, and BucketUnavailable.
    """
    urls = here.answers.prediction(snapshot.row, snapshot.images)["output"]
    created = {"created": int(snapshot.row["completed_at"].timestamp())}
    about = created | about_images(asked, snapshot.row) | {"usage": usage(model, snapshot.row, len(snapshot.images))}
    pieces: list[bytes | Row] = [f'{dump(about)[:-1]},"data":['.encode()]
    for image, url in zip(snapshot.images, urls, strict=True):
        comma = "," if len(pieces) > 1 else ""
        pieces += _with_base64(asked, f"{comma}{dump({'url': url})}", comma + "{", image)
    pieces.append(b"]}")
    length = sum(len(piece) if isinstance(piece, bytes) else base64_length(piece["size_bytes"]) for piece in pieces)
    body = _body(here, pieces)
    next(body)
    return body, length


def completed_event(
    here: Services, asked: ImageRequest, model: Model, snapshot: Snapshot, image: Row, url: str
) -> Iterator[str]:
    """The text of one `image_generation.completed` (or `image_edit.completed`) event, in pieces.

    Raises Problem where its bytes are lost, and BucketUnavailable.
    """
    data = {"type": f"{asked.event_name}.completed"} | about_images(asked, snapshot.row)
    data["created_at"] = int(snapshot.row["completed_at"].timestamp())
    data["usage"] = usage(model, snapshot.row, 1)
    stored = _open(here, image) if asked.response_format != "url" else None
    if asked.response_format != "b64_json":
        data["url"] = url
    yield f"event: {asked.event_name}.completed\nid: 0\ndata: {compact(data)[:-1]}"
    if stored is not None:
        yield ',"b64_json":"'
        yield from (piece.decode() for piece in base64_of(stored.chunks))
        yield '"'
    yield "}\n\n"


def about_images(asked: ImageRequest, row: Row) -> dict[str, Any]:
    """What is equal for all images of an answer."""
    return {
        "background": "opaque",
        "output_format": asked.output_format or DEFAULT.openai_name,
        "quality": "high",
        "size": f"{row['parameters']['width']}x{row['parameters']['height']}",
    }


def usage(model: Model, row: Row, images: int) -> dict[str, Any]:
    """What was asked and drawn, counted by size: how a model cuts text into tokens, only its worker knows.

    A text token is 4 bytes of the prompts in UTF-8, an image token a square of `limits.multiple_of` pixels a side.
    """
    parameters, side = row["parameters"], model.limits.multiple_of
    text_bytes = sum(len(parameters.get(name, "").encode()) for name in ("prompt", "negative_prompt"))
    text = ceil(text_bytes / BYTES_A_TEXT_TOKEN)
    an_image = ceil(parameters["width"] / side) * ceil(parameters["height"] / side)
    drawn = images * an_image
    number = len([parameters["image"], *parameters.get("more_images", ())]) if parameters.get("image") else 0
    given = number * an_image  # each counts like an image in the size of the drawing
    return {
        "input_tokens": given + text,
        "input_tokens_details": {"image_tokens": given, "text_tokens": text},
        "output_tokens": drawn,
        "output_tokens_details": {"image_tokens": drawn, "text_tokens": 0},
        "total_tokens": given + text + drawn,
    }


def base64_length(size_bytes: int) -> int:
    """How many characters so many bytes are."""
    return ceil(size_bytes / 3) * 4


def base64_of(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Base64 of all the chunks together."""
    rest = b""
    for chunk in chunks:
        rest += chunk
        whole = len(rest) // 3 * 3
        yield base64.b64encode(rest[:whole])
        rest = rest[whole:]
    yield base64.b64encode(rest)


def _with_base64(asked: ImageRequest, with_url: str, without_url: str, image: Row) -> Sequence[bytes | Row]:
    if asked.response_format == "url":
        return [with_url.encode()]
    before = without_url if asked.response_format == "b64_json" else f"{with_url[:-1]},"
    return [f'{before}"b64_json":"'.encode(), image, b'"}']


def _body(here: Services, pieces: Sequence[bytes | Row]) -> Iterator[bytes]:
    """Nothing first, when the first image is open; then the pieces, each image in its place as base64."""
    first = next((piece for piece in pieces if not isinstance(piece, bytes)), None)
    opened: StoredObject | None = None if first is None else _open(here, first)
    yield b""
    for piece in pieces:
        if isinstance(piece, bytes):
            yield piece
            continue
        stored, opened = opened or _open(here, piece), None
        yield from base64_of(stored.chunks)


def _open(here: Services, image: Row) -> StoredObject:
    file = StoredFile(
        image["object_key"], image["content_type"], image["size_bytes"], image["sha256"], image["missing_for"]
    )
    return open_file(here, file)
