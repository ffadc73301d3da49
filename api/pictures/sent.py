"""Pictures sent in the body of a request: each is kept in a temporary file, and a short description replaces it.

So no picture is in memory while its request waits, and none in Postgres: the description is what `input` shows. Sent
again in place of the picture, it stands for the stored one (`sources.py`).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from flask import g

from api.errors import InvalidInput

IN_MEMORY_BYTES = 64 * 1024
DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)?((?:;[\w.+-]+=[\w.+\"-]+)*)(;base64)?,", re.IGNORECASE | re.ASCII)
PIECE_CHARS = 512 * 1024  # of base64 that is decoded at once; a multiple of 4
DESCRIPTION = re.compile(r"(data|form):[^\0…]{0,80},… \([0-9]{1,12} bytes, SHA-256 [0-9a-f]{64}\)", re.ASCII)
BLANK = re.compile(r"[ \t\r\n]+")


@dataclass(frozen=True)
class SentPicture:
    """The bytes of a picture, in a file that is closed with its request."""

    file: IO[bytes]
    size_bytes: int
    is_alpha_mask: bool = False  # OpenAI's: what is transparent is redrawn


def spooled() -> IO[bytes]:
    """A file that lies on the disk once it is not small."""
    return cast("IO[bytes]", SpooledTemporaryFile(max_size=IN_MEMORY_BYTES))


def sha256_of(file: IO[bytes]) -> str:
    """Of all that it holds, hexadecimal; it stands at its beginning then."""
    file.seek(0)
    digest = hashlib.sha256()
    while piece := file.read(PIECE_CHARS):
        digest.update(piece)
    file.seek(0)
    return digest.hexdigest()


def keep_sent(
    file: IO[bytes], *, came_as: str, content_type: str, size_bytes: int, sha256: str, is_alpha_mask: bool = False
) -> str:
    """Keep a picture for the rest of the request; returns the description that stands for it."""
    description = f"{came_as}:{content_type[:60]},… ({size_bytes} bytes, SHA-256 {sha256})"
    _kept().setdefault(description, deque()).append(SentPicture(file, size_bytes, is_alpha_mask))
    return description


def description_in(value: str) -> str | None:
    """The value, if it is the description of a picture that a request carried, this one or an earlier one."""
    return value if DESCRIPTION.fullmatch(value) else None


def sent_picture(description: str) -> SentPicture | None:
    """The picture of this request that a description stands for. One that was sent twice comes in its two files."""
    same = _kept().get(description)
    if same is None:
        return None
    same.rotate(-1)
    return same[-1]


def close_sent(_: BaseException | None = None) -> None:
    """Close the files of the request that has ended."""
    for same in g.pop("sent_pictures", {}).values():
        for picture in same:
            picture.file.close()


def with_data_urls_kept(inputs: Mapping[str, Any], names: Iterator[str] | tuple[str, ...]) -> dict[str, Any]:
    """The inputs, descriptions in place of `data:` URLs. Raises InvalidInput for one that can't be read."""
    kept = dict(inputs)
    for name in names:
        value = kept.get(name)
        if isinstance(value, list):
            kept[name] = [_kept_value(f"input.{name}.{number}", each) for number, each in enumerate(value)]
        elif value is not None:
            kept[name] = _kept_value(f"input.{name}", value)
    return kept


def _kept_value(field: str, value: Any) -> Any:
    if isinstance(value, str) and value[:5].lower() == "data:" and description_in(value) is None:
        return _keep_data_url(field, value)
    return value


def _keep_data_url(field: str, url: str) -> str:
    head = DATA_URL.match(url[:300])
    if head is None or head[3] is None:
        raise InvalidInput(field, "a data: URL has to be data:image/png;base64,… (or image/jpeg, image/webp)")
    if "…" in url[:300]:
        raise InvalidInput(field, "is only a part of a picture's description: send all of it, or the picture itself")
    file, digest, size_bytes = spooled(), hashlib.sha256(), 0
    try:
        for piece in _decoded(url, head.end()):
            file.write(piece)
            digest.update(piece)
            size_bytes += len(piece)
    except (binascii.Error, ValueError):
        file.close()
        raise InvalidInput(field, "what follows `;base64,` is not base64") from None
    return keep_sent(
        file,
        came_as="data",
        content_type=f"{head[1] or 'text/plain'};base64",
        size_bytes=size_bytes,
        sha256=digest.hexdigest(),
    )


def _decoded(url: str, start: int) -> Iterator[bytes]:
    """The bytes, piece by piece. Some programs break lines, escape `+`, `/` and `=`, or use the URL-safe alphabet."""
    text = url[start:]
    if "%" in text:
        text = re.sub("%(2B|2F|3D|0A|0D|20)", lambda found: chr(int(found[1], 16)), text, flags=re.IGNORECASE)
    if "\n" in text or " " in text or "\r" in text:
        text = BLANK.sub("", text)
    if "-" in text or "_" in text:
        text = text.replace("-", "+").replace("_", "/")
    text = text.rstrip("=")
    for at in range(0, len(text), PIECE_CHARS):
        piece = text[at : at + PIECE_CHARS]
        yield base64.b64decode(piece + "=" * (-len(piece) % 4), validate=True)


def _kept() -> dict[str, deque[SentPicture]]:
    if "sent_pictures" not in g:
        g.sent_pictures = {}
    kept: dict[str, deque[SentPicture]] = g.sent_pictures
    return kept
