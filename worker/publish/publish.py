"""From pictures in memory to a prediction that succeeded: encode, upload, finish."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.access.links import EXTENSIONS, THUMBNAIL_EXTENSION
from storage.bucket import Bucket, BucketUnavailable
from storage.postgres.database import Connection
from storage.predictions.claim import Claim
from storage.predictions.finish import Outcome, StoredImage, StoredThumbnail, finish
from storage.predictions.parameters import Parameters
from storage.predictions.render import Wire
from worker.leases import ClaimLost, HeldClaim
from worker.publish.encoding import describe, encode, encode_thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

log = structlog.get_logger(__name__)

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
    embed_parameters: bool = True

    def upload(
        self, held: HeldClaim, images: Sequence[Image], parameters: Parameters, *, sampler: str = ""
    ) -> list[StoredImage]:
        """Store the images under keys of this claim's own, so that nobody's published image is overwritten.

        Raises ClaimLost, MustLeave.
        """
        stored = []
        row = held.claim.prediction
        for index, image in enumerate(images):
            text = describe(parameters, index, model=row["model"], version=row["version"], sampler=sampler)
            body, content_type = encode(image, parameters, text=text if self.embed_parameters else None)
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
                    thumbnail=self._upload_thumbnail(held, index, image),
                )
            )
        return stored

    def _upload_thumbnail(self, held: HeldClaim, index: int, image: Image) -> StoredThumbnail:
        body, content_type = encode_thumbnail(image)
        key = key_of(self.s3_prefix, held.claim, index, THUMBNAIL_EXTENSION)
        _insist(held, partial(self.bucket.put, key, body, content_type))
        return StoredThumbnail(key, hashlib.sha256(body).hexdigest(), len(body), content_type)

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
