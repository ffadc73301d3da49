"""From the pictures that a request names to objects in the bucket, to which its prediction refers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from api.errors import InvalidInput
from api.pictures.asked import AskedPicture
from api.pictures.cropping import Kept
from api.pictures.decode import NOT_TRANSPARENT, MaskIs, NotAPicture, Picture, StoredPicture
from api.pictures.sources import open_source
from api.server.threads import expect_to_sleep
from api.services import Services
from storage.formats import PNG
from storage.predictions.object_keys import input_key
from storage.s3.lost_objects import mark_found
from storage.s3.sent_objects import SentObject, begin_to_store


@dataclass(frozen=True)
class OpenPicture:
    """A picture whose bytes are here."""

    field: str
    picture: Picture
    mask: MaskIs | None  # None: it is the image

    def converted(self, here: Services, width: int, height: int, kept: Kept) -> StoredPicture:
        """As it is stored, for a drawing of that size from what is `kept` of the start image. Raises InvalidInput."""
        with here.picture_memory.of(self.picture.memory_bytes):
            try:
                return self.picture.stored(width, height, mask=self.mask, kept=kept)
            except NotAPicture as error:
                raise InvalidInput(self.field, str(error)) from None


@contextmanager
def opened(here: Services, asked: Mapping[str, AskedPicture]) -> Iterator[dict[str, OpenPicture]]:
    """Get the bytes of each, and look how large it is. Raises InvalidInput, and Problem where it may work later."""
    with ExitStack() as stack:
        yield {name: _open(here, name, each, stack) for name, each in asked.items()}


def _open(here: Services, name: str, asked: AskedPicture, stack: ExitStack) -> OpenPicture:
    source = open_source(here, asked.field, asked.value, is_mask=name == "mask")
    stack.callback(source.file.close)
    try:
        picture = Picture(source.file, max_pixels=here.settings.max_input_image_pixels)
    except NotAPicture as error:
        raise InvalidInput(asked.field, str(error)) from None
    if name != "mask":
        return OpenPicture(asked.field, picture, None)
    if source.is_alpha_mask and not picture.may_be_transparent:
        raise InvalidInput(asked.field, NOT_TRANSPARENT)
    return OpenPicture(asked.field, picture, "transparent" if source.is_alpha_mask else "white")


def store(here: Services, picture: StoredPicture) -> str:
    """Put it into the bucket unless it is there; its key. Raises BucketUnavailable."""
    key = input_key(here.settings.s3_prefix, picture.sha256)
    sent = SentObject(key, picture.sha256, picture.size_bytes, PNG.content_type)
    with here.pool.connection() as conn:
        is_new = begin_to_store(conn, sent)
    if is_new:
        expect_to_sleep()
        picture.file.seek(0)
        here.bucket.put(key, picture.file, PNG.content_type)
        with here.pool.connection() as conn:
            mark_found(conn, key)
    return key
