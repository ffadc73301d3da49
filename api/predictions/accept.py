"""All routes that draw use `accept`: it checks a request, fills in defaults, and submits it."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial

import structlog
from flask import request
from psycopg.errors import ForeignKeyViolation

from api import request_span
from api.auth import caller
from api.parsing.idempotency_key import hash_of_request, idempotency_key
from api.pictures.cropping import Kept, crop_note, kept_of
from api.pictures.into_bucket import opened, store
from api.pictures.sent import description_in
from api.predictions.inputs import Inputs, inputs_for
from api.predictions.webhook_targets import require_allowed
from api.schemas import PredictionRequest
from api.services import Services, services
from storage.catalog import Model
from storage.postgres.database import Row
from storage.predictions.parameters import Parameters
from storage.predictions.repeats.idempotency import read_by_key
from storage.predictions.repeats.result_cache import cache_key_of, reuse_result
from storage.predictions.submit import InputImage, Submission, ring, submit
from storage.webhooks.events import filter_of

log = structlog.get_logger(__name__)

STORE_TRIES = 3
NOTHING_MARKED = (
    "The mask is black everywhere that is drawn: nothing is repainted "
    "(white areas are; transparent ones count as black)\n"
)
NOTHING_TRANSPARENT = "The mask has no transparent area where something is drawn: nothing is repainted\n"


@dataclass(frozen=True)
class Accepted:
    """The prediction of a request. It isn't new if the Idempotency-Key or the cache of results already had it."""

    row: Row
    is_new: bool


def accept(asked: PredictionRequest, model: Model, *, deadline_s: float | None) -> Accepted:
    """Check a request against its model and submit it. Raises Problem, KeyReused, QuotaExceeded."""
    here, by = services(), caller()
    is_strict = request.headers.get("X-Darkroom-Strict") == "1"
    inputs_of = partial(
        inputs_for,
        model,
        asked,
        max_priority=by.max_priority,
        max_images=by.max_images,
        is_strict=is_strict,
        catalog=here.catalog,
        lora_hosts=here.settings.lora_hosts,
    )
    inputs = inputs_of()
    if asked.webhook is not None:
        allowed = here.webhook_targets.now(is_open=by.token_id is None)
        require_allowed(asked.webhook, allowed, token_id=by.token_id)
    key = idempotency_key(request.headers.get("Idempotency-Key"))
    request_hash = None if key is None else hash_of_request()
    submission = Submission(
        model=model.name,
        version=model.version,
        queue_name=model.queue_name,
        input=inputs.given,
        parameters={},
        logs=inputs.notes,
        deadline_s=min(deadline_s or math.inf, here.settings.prediction_deadline_s),
        webhook=asked.webhook,
        webhook_events=() if asked.webhook is None else filter_of(asked.webhook_events_filter),
        priority=inputs.priority,
        keep=asked.keep,
        traceparent=request_span.traceparent(),
        metadata=asked.metadata,
        is_fair=here.settings.fair,
        token_id=by.token_id,
        quota=by.quota,
        idempotency_key=key,
        request_hash=request_hash,
    )
    if not inputs.pictures:
        return _submit(_drawing(submission, inputs.parameters))
    if key is not None and (earlier := _earlier(here, by.token_id, key, request_hash)) is not None:
        return Accepted(earlier, is_new=False)  # its pictures are not fetched again, and may be gone by now
    return _submit_with_pictures(here, submission, inputs, inputs_of, crops=not model.takes_several_images)


def _drawing(submission: Submission, drawn: Parameters) -> Submission:
    parameters = drawn.to_json()
    cache_key = cache_key_of(submission.model, submission.version, parameters)
    return replace(submission, parameters=parameters, cache_key=cache_key)


def _earlier(here: Services, token_id: int | None, key: str, request_hash: str | None) -> Row | None:
    with here.pool.connection() as conn:
        return read_by_key(conn, token_id, key, request_hash)


def _submit_with_pictures(
    here: Services, submission: Submission, inputs: Inputs, inputs_of: Callable[..., Inputs], *, crops: bool
) -> Accepted:
    """`crops`: whether the model starts from a part of the image that has the shape of the drawing."""
    with ExitStack() as files, opened(here, inputs.pictures) as pictures:
        # A seed that was drawn for the first look is not the one that `logs` name then.
        inputs = inputs_of(image_size=pictures["image"].picture.size)
        drawn = inputs.parameters
        size, drawn_size = pictures["image"].picture.size, (drawn.width, drawn.height)
        kept = kept_of(size, drawn_size) if crops else Kept()
        stored = {}
        for name, picture in pictures.items():
            stored[name] = picture.converted(here, drawn.width, drawn.height, kept)
            files.callback(stored[name].file.close)
        first, *more = (picture.sha256 for name, picture in stored.items() if name != "mask")
        mask = stored["mask"].sha256 if "mask" in stored else ""
        notes = crop_note(size, drawn_size) if crops else ""
        if "mask" in stored and not stored["mask"].marks_something:
            notes += NOTHING_MARKED if pictures["mask"].mask == "white" else NOTHING_TRANSPARENT
        submission = _drawing(
            replace(submission, logs=inputs.notes + notes),
            replace(drawn, image=first, more_images=tuple(more), mask=mask),
        )
        for left in reversed(range(STORE_TRIES)):
            images = {
                name: InputImage(store(here, picture), sent_as=description_in(inputs.pictures[name].value))
                for name, picture in stored.items()
            }
            try:
                return _submit(replace(submission, input_images=images))
            except ForeignKeyViolation:  # the last prediction with that picture was deleted a moment ago
                if not left:
                    raise
    raise AssertionError("the last try returns or raises")


def _submit(submission: Submission) -> Accepted:
    here = services()
    with here.pool.connection() as conn:
        row = submit(conn, submission, here.renderer)
        is_new = row["id"] == submission.id
        log.info(
            "prediction.created" if is_new else "prediction.repeated", prediction_id=row["id"], model=submission.model
        )
        if is_new and row["drawn_before"]:
            if (reused := reuse_result(conn, here.renderer, here.bucket, row)) is not None:
                log.info("prediction.reused", prediction_id=row["id"])
                return Accepted(reused, is_new=False)
            ring(conn, row["id"])  # retention has just taken the images, or the bucket has lost them
    return Accepted(row, is_new)
