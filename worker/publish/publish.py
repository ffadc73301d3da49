"""From images in memory to a prediction that succeeded: encode, upload, commit."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import psycopg
import structlog
from psycopg_pool import ConnectionPool

from storage.backoff import Backoff
from storage.formats import THUMBNAIL_EXTENSION, extension_of
from storage.postgres.database import Connection, Row
from storage.predictions.finish import Outcome, StoredImage, StoredThumbnail, finish
from storage.predictions.render import Renderer
from storage.s3.bucket import Bucket, BucketUnavailable
from worker.attempts.attempt import Attempt, ClaimLost
from worker.publish.content_credentials import ContentCredentials
from worker.publish.encoding import describe, encode, encode_thumbnail

if TYPE_CHECKING:
    from PIL.Image import Image

log = structlog.get_logger(__name__)

# A worker publishes up to 16 predictions at once (`results.py`), most of them one image and its thumbnail.
UPLOAD_THREADS = 32
RETRY_AFTER_S = 0.5
RETRY_AFTER_AT_MOST_S = 5.0

T = TypeVar("T")


@dataclass(frozen=True)
class Publisher:
    """Writes results. It retries during outages of the bucket and of Postgres, as long as the claim is ours."""

    pool: ConnectionPool[Connection]
    bucket: Bucket
    renderer: Renderer
    s3_prefix: str
    embed_parameters: bool = True
    mark_ai_generated: bool = True
    credentials: ContentCredentials | None = None
    threads: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(UPLOAD_THREADS, thread_name_prefix="uploads")
    )

    def upload(self, attempt: Attempt, images: Sequence[Image]) -> list[StoredImage]:
        """Store the images under keys that only this claim uses, so that no published image is overwritten.

        They are encoded one after the other. All uploads happen at the same time, each from when its file is encoded;
        this returns, or raises, when none is under way any more. Raises ClaimLost, MustLeave.
        """
        stored: list[StoredImage] = []
        uploads: list[Future[None]] = []
        try:
            for index, image in enumerate(images):
                body, content_type = self._encode(attempt, index, image)
                key = attempt.claim.key_of(self.s3_prefix, index, extension_of(content_type))
                uploads.append(self.threads.submit(self._put, attempt, key, body, content_type))
                small, small_type = encode_thumbnail(image, marked=self.mark_ai_generated)
                small_key = attempt.claim.key_of(self.s3_prefix, index, THUMBNAIL_EXTENSION)
                uploads.append(self.threads.submit(self._put, attempt, small_key, small, small_type))
                stored.append(
                    StoredImage(
                        key=key,
                        sha256=hashlib.sha256(body).hexdigest(),
                        size_bytes=len(body),
                        content_type=content_type,
                        width=image.width,
                        height=image.height,
                        seed=attempt.parameters.seed_of(index),
                        thumbnail=StoredThumbnail(small_key, hashlib.sha256(small).hexdigest(), len(small), small_type),
                    )
                )
        finally:
            wait(uploads)
        for upload in uploads:
            upload.result()
        return stored

    def close(self) -> None:
        """Return when no upload is under way. After that, nothing can be uploaded."""
        self.threads.shutdown(wait=True)

    def _encode(self, attempt: Attempt, index: int, image: Image) -> tuple[bytes, str]:
        row, parameters = attempt.claim.prediction, attempt.parameters
        text = describe(parameters, index, model=row["model"], version=row["version"], sampler=attempt.sampler)
        with attempt.spans.phase("encode_image"):
            body, content_type = encode(
                image, parameters, text=text if self.embed_parameters else None, marked=self.mark_ai_generated
            )
            if self.credentials is not None:
                body = self.credentials.sign(body, content_type, model=row["model"], model_version=row["version"])
        return body, content_type

    def _put(self, attempt: Attempt, key: str, body: bytes, content_type: str) -> None:
        with attempt.spans.phase("upload"):
            _retry(attempt, partial(self.bucket.put, key, body, content_type))

    def commit(self, attempt: Attempt, outcome: Outcome) -> Row:
        """Write the outcome; returns the prediction's row as it is now.

        Raises MustLeave, and ClaimLost when the claim is no longer ours (the fence may be the first to notice). If
        the answer to a COMMIT is lost, the second try finds the prediction terminal, which is ClaimLost as well.
        """

        def finish_once() -> Row | None:
            with self.pool.connection() as conn:
                return finish(conn, self.renderer, attempt.id, outcome, claim_id=attempt.claim.claim_id)

        with attempt.spans.phase("finish"):
            row = _retry(attempt, finish_once)
        if row is None:
            raise ClaimLost(attempt.id)
        return row


def _retry(attempt: Attempt, work: Callable[[], T]) -> T:
    """Try until it works: an outage must not cost an image that is drawn already. Raises ClaimLost, MustLeave."""
    backoff = Backoff(RETRY_AFTER_S, at_most_s=RETRY_AFTER_AT_MOST_S)
    while True:
        attempt.raise_if_lost()
        attempt.progressed()
        try:
            return work()
        except (BucketUnavailable, psycopg.OperationalError) as error:
            log.warning("publish.retry", **attempt.names, reason=str(error).strip().partition("\n")[0])
            attempt.raise_if_must_leave()
            time.sleep(backoff.next_s())
