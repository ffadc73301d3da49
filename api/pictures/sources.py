"""Where a picture comes from: the body of this request or an earlier one, a file of this service, or a URL."""

from __future__ import annotations

from typing import IO
from urllib.parse import parse_qs, urlsplit

from api.auth import caller
from api.errors import InvalidInput, Problem
from api.files.stored_file import open_file
from api.pictures.fetch import fetch
from api.pictures.sent import SentPicture, description_in, sent_picture, spooled
from api.predictions.ownership import is_id
from api.server.threads import expect_to_sleep
from api.services import Services
from storage.files import read_file_row, stored_file_of
from storage.outbound.download import WriteFailed
from storage.predictions.read import StoredFile, read_file, read_prediction
from storage.predictions.sent_again import find_sent_again


def open_source(here: Services, field: str, value: str, *, is_mask: bool) -> SentPicture:
    """The bytes that an input names; who calls this closes the file, also of a picture that the request carried.

    Raises InvalidInput, which names the field and the reason, and Problem where it may work later.
    """
    sent = sent_picture(value)
    if sent is not None:
        _check_size(here, field, sent.size_bytes)
        return sent
    file = spooled()
    try:
        size_bytes = _read_own(here, field, value, file, is_mask=is_mask)
        if size_bytes is None:
            size_bytes = fetch(here, field, value, file)
    except WriteFailed:
        file.close()
        raise Problem(503, "No room", "the picture could not be stored here: try again later") from None
    except BaseException:
        file.close()
        raise
    return SentPicture(file, size_bytes)


def _check_size(here: Services, field: str, size_bytes: int) -> None:
    limit = here.settings.max_input_image_bytes
    if size_bytes > limit:
        raise InvalidInput(field, f"has {size_bytes} bytes; at most {limit} are taken (MAX_INPUT_IMAGE_BYTES)")


def _read_own(here: Services, field: str, url: str, into: IO[bytes], *, is_mask: bool) -> int | None:
    """Read a file of this service past HTTP; its size, or None: the URL is not of this service."""
    if (description := description_in(url)) is not None:
        return _read_sent_again(here, field, description, into, is_mask=is_mask)
    path = _own_path(here, url)
    if path is None:
        return None
    stored = _uploaded(here, path) if len(path) == 1 else _signed_file(here, url, path)
    if stored is None:
        raise InvalidInput(field, "there is no such file: it was deleted, it has expired, or it is another token's")
    _check_size(here, field, stored.size_bytes)
    return _copy(here, field, stored, into)


def _read_sent_again(here: Services, field: str, description: str, into: IO[bytes], *, is_mask: bool) -> int:
    """The picture as it was stored for an earlier prediction of this token, which may be smaller than it came."""
    with here.pool.connection() as conn:
        stored = find_sent_again(conn, description, token_id=caller().token_id, is_mask=is_mask)
    if stored is None:
        what = "a mask" if is_mask else "an image"
        raise InvalidInput(
            field,
            f"is the description of a picture, and no prediction of yours has such {what} (any more): "
            "send the picture itself",
        )
    return _copy(here, field, stored, into)


def _copy(here: Services, field: str, stored: StoredFile, into: IO[bytes]) -> int:
    try:
        chunks = open_file(here, stored).chunks
    except Problem:  # 410
        raise InvalidInput(field, "the image store has lost this file: upload, draw or send it again") from None
    expect_to_sleep()
    for chunk in chunks:
        try:
            into.write(chunk)
        except OSError as error:
            raise WriteFailed(str(error)) from error
    return stored.size_bytes


def _own_path(here: Services, url: str) -> list[str] | None:
    """What stands behind /files/ in a URL of this service."""
    for prefix in ("/v1/files/", "/files/"):
        begin = f"{here.settings.public_url}{prefix}"
        if url.startswith(begin):
            return urlsplit(url[len(begin) :]).path.split("/")
    return None


def _uploaded(here: Services, path: list[str]) -> StoredFile | None:
    with here.pool.connection() as conn:
        row = read_file_row(conn, path[0]) if is_id(path[0]) else None
    if row is None or not caller().owns(row):
        return None
    return stored_file_of(row)


def _signed_file(here: Services, url: str, path: list[str]) -> StoredFile | None:
    """A drawn image or an uploaded file by its link. Anyone with the signed link may open it, and so may its owner."""
    if len(path) != 2 or not is_id(path[0]):
        return None
    query = parse_qs(urlsplit(url).query)
    expires, signature = query.get("expires", [""])[0], query.get("signature", [""])[0]
    is_signed = here.renderer.links.verify("/".join(path), expires, signature, now=here.clock.now())
    with here.pool.connection() as conn:
        if path[1] == "download":
            row = read_file_row(conn, path[0]) if is_signed else None
            return None if row is None else stored_file_of(row)
        index, _, extension = path[1].partition(".")
        prediction = read_prediction(conn, path[0])
        if prediction is None or not (is_signed or caller().owns(prediction)):
            return None
        if not (index.isascii() and index.isdecimal() and len(index) <= 4) or "." in extension:
            return None
        return read_file(conn, path[0], int(index))
