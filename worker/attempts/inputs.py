"""Brings what predictions need beside their parameters: pictures from the bucket, cut to the size drawn, and LoRAs.

Each prediction that has some gets a thread, so that neither claiming nor drawing waits for S3.
"""

from __future__ import annotations

import hashlib
import io
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from storage.backoff import Backoff
from storage.errors import DarkroomError
from storage.predictions.object_keys import input_key
from storage.s3.bucket import Bucket, BucketUnavailable, ObjectMissing, ObjectUnreadable
from worker.attempts.attempt import Attempt, ClaimLost, MustLeave
from worker.attempts.lora_downloads import LoraDownloads, LoraNotFetched
from worker.engine import Pictures
from worker.engine.input_images.pictures import fit

if TYPE_CHECKING:
    from PIL.Image import Image

log = structlog.get_logger(__name__)

RETRY_AFTER_S = 0.5
RETRY_AFTER_AT_MOST_S = 5.0
# An object that can't be read while others can: a part of S3 may be restarting. After this long it counts as lost.
LOST_AFTER_S = 60.0


class InputLost(DarkroomError):
    """A picture was deleted, or differs from what the API stored. The message is for the client."""


@dataclass(frozen=True)
class Inputs:
    """Reads inputs. During an outage of the bucket it retries for as long as the claim is ours."""

    bucket: Bucket
    s3_prefix: str
    loras: LoraDownloads
    keeps_sizes: bool = False  # a model that looks at images gets them whole; others start from one of the size drawn

    def fetch(self, attempt: Attempt, on_ready: Callable[[], None]) -> None:
        """Bring what an attempt needs, or set its `failure`, on a thread of its own; then call `on_ready`.

        If the claim is lost meanwhile, or the worker has to leave, nothing happens.
        """
        threading.Thread(target=self._fetch, args=(attempt, on_ready), name="inputs", daemon=True).start()

    def _fetch(self, attempt: Attempt, on_ready: Callable[[], None]) -> None:
        try:
            with attempt.spans.phase("fetch_inputs"):
                for url in attempt.lora_urls:
                    self.loras.fetch(url)
                if attempt.parameters.image:
                    attempt.pictures = self._pictures_of(attempt)
            attempt.loras_are_there = True
        except (ClaimLost, MustLeave):
            return
        except (InputLost, LoraNotFetched) as error:
            attempt.failure = str(error)
        except Exception as error:
            log.exception("inputs.not_read", **attempt.names)
            attempt.failure = f"Its inputs can't be read: {type(error).__name__}: {error}"
        on_ready()

    def _pictures_of(self, attempt: Attempt) -> Pictures:
        asked = attempt.parameters
        image = self._read(attempt, asked.image, "image", mode="RGB")
        mask = self._read(attempt, asked.mask, "mask", mode="L") if asked.mask else None
        more = tuple(self._read(attempt, each, "image", mode="RGB") for each in asked.more_images)
        pictures = Pictures(image, mask, more)
        return pictures if self.keeps_sizes else fit(pictures, asked.width, asked.height)

    def _read(self, attempt: Attempt, sha256: str, what: str, *, mode: str) -> Image:
        from PIL import Image

        body = self._read_bytes(attempt, input_key(self.s3_prefix, sha256), what)
        if hashlib.sha256(body).hexdigest() != sha256:
            raise InputLost(f"The stored {what} has changed since the request. Send the request again.")
        Image.MAX_IMAGE_PIXELS = None  # the API has held it against MAX_INPUT_IMAGE_PIXELS, and these are its bytes
        return Image.open(io.BytesIO(body), formats=["PNG"]).convert(mode)

    def _read_bytes(self, attempt: Attempt, key: str, what: str) -> bytes:
        backoff, began_at = Backoff(RETRY_AFTER_S, at_most_s=RETRY_AFTER_AT_MOST_S), time.monotonic()
        while True:
            attempt.raise_if_lost()
            attempt.raise_if_must_leave()
            try:
                return self.bucket.read(key)
            except ObjectMissing:
                raise InputLost(f"The {what} is no longer in the bucket. Send the request again.") from None
            except BucketUnavailable as error:
                if isinstance(error, ObjectUnreadable) and time.monotonic() - began_at > LOST_AFTER_S:
                    raise InputLost(f"The bucket has lost the {what}. Send the request again.") from None
                log.warning("inputs.retry", **attempt.names, reason=str(error).strip().partition("\n")[0])
                time.sleep(backoff.next_s())
