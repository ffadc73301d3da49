"""From pictures in memory to a prediction that succeeded: encode, upload, finish."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.bucket import Bucket, BucketUnavailable
from storage.claim import Claim
from storage.database import Connection
from storage.finish import Outcome, StoredImage, finish
from storage.links import EXTENSIONS
from storage.parameters import Parameters
from storage.wire import Wire
from worker.leases import ClaimLost, HeldClaim

if TYPE_CHECKING:
    from PIL.Image import Image

log = structlog.get_logger(__name__)

CONTENT_TYPES = {"png": "image/png", "jpg": "image/jpeg", "webp": "image/webp"}

RETRY_AFTER_S = 0.5
RETRY_AFTER_AT_MOST_S = 5.0

T = TypeVar("T")


@dataclass(frozen=True)
class Publisher:
    """Writes results, through outages of the bucket and of Postgres, for as long as the claim is ours."""

    pool: ConnectionPool[Connection]
    bucket: Bucket
    wire: Wire
    s3_prefix: str

    def upload(self, held: HeldClaim, images: Sequence[Image], parameters: Parameters) -> list[StoredImage]:
        """Store the images under keys of this claim's own, so that nobody's published image is overwritten.

        Raises ClaimLost, MustLeave.
        """
        stored = []
        for index, image in enumerate(images):
            body, content_type = encode(image, parameters)
            key = key_of(self.s3_prefix, held.claim, index, EXTENSIONS[content_type])
            _insist(held, partial(self.bucket.put, key, body, content_type))
            stored.append(
                StoredImage(
                    key=key,
                    sha256=hashlib.sha256(body).hexdigest(),
                    size_bytes=len(body),
                    content_type=content_type,
                    width=image.width,
                    height=image.height,
                    seed=parameters.seed_of(index),
                )
            )
        return stored

    def finish(self, held: HeldClaim, outcome: Outcome) -> None:
        """Commit the outcome. Raises MustLeave, and ClaimLost where the claim was lost, also if only the fence knew it.

        A COMMIT whose answer was lost is tried again, finds the prediction terminal, and ends as ClaimLost too.
        """

        def commit() -> bool:
            with self.pool.connection() as conn:
                claim = held.claim
                return finish(conn, self.wire, claim.prediction_id, outcome, claim_id=claim.claim_id) is not None

        if not _insist(held, commit):
            raise ClaimLost(held.claim.prediction_id)


def key_of(s3_prefix: str, claim: Claim, index: int, extension: str) -> str:
    """`{S3_PREFIX}/predictions/{id}/{attempt}-{claim_id}/{n}.{ext}`"""
    name = f"predictions/{claim.prediction_id}/{claim.attempt}-{claim.claim_id}/{index}.{extension}"
    return f"{s3_prefix}/{name}" if s3_prefix else name


def encode(image: Image, parameters: Parameters) -> tuple[bytes, str]:
    """The bytes of an image in the format that was asked for, and their content type."""
    buffer = io.BytesIO()
    if parameters.output_format == "png":
        image.save(buffer, "PNG", compress_level=4)  # 6, the default, takes twice as long and saves 2 %
    else:
        format_ = "JPEG" if parameters.output_format == "jpg" else "WEBP"
        image.save(buffer, format_, quality=parameters.output_quality)
    return buffer.getvalue(), CONTENT_TYPES[parameters.output_format]


def _insist(held: HeldClaim, attempt: Callable[[], T]) -> T:
    """Try until it works: an outage must not cost a picture that is drawn already. Raises ClaimLost, MustLeave."""
    pause_s = RETRY_AFTER_S
    while True:
        held.raise_if_lost()
        held.progressed()
        try:
            return attempt()
        except (BucketUnavailable, psycopg.OperationalError) as error:
            log.warning(
                "publish.retry",
                prediction_id=held.claim.prediction_id,
                attempt=held.claim.attempt,
                reason=str(error).strip().partition("\n")[0],
            )
            held.raise_if_must_leave()
            time.sleep(pause_s)
            pause_s = min(pause_s * 2, RETRY_AFTER_AT_MOST_S)
