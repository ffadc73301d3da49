"""The one door of every route that draws: a request is checked, completed, and submitted."""

from __future__ import annotations

import math
from dataclasses import dataclass

import structlog
from flask import request

from api import request_span
from api.auth import caller
from api.inputs import inputs_for
from api.parsing.idempotency_key import hash_of_request, idempotency_key
from api.schemas import PredictionRequest
from api.services import services
from api.webhook_targets import require_allowed
from storage.catalog import Model
from storage.postgres.database import Row
from storage.predictions.result_cache import cache_key_of, reuse_result
from storage.predictions.submit import Submission, ring, submit
from storage.webhooks.events import filter_of

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Accepted:
    """The prediction of a request. Not a new one where its Idempotency-Key, or the cache of results, had it."""

    row: Row
    is_new: bool


def accept(asked: PredictionRequest, model: Model, *, deadline_s: float | None) -> Accepted:
    """Check a request against its model and submit it. Raises Problem, KeyReused, QuotaExceeded."""
    here, by = services(), caller()
    is_strict = request.headers.get("X-Darkroom-Strict") == "1"
    inputs = inputs_for(model, asked, max_priority=by.max_priority, max_images=by.max_images, is_strict=is_strict)
    if asked.webhook is not None:
        allowed = here.webhook_targets.now(is_open=by.token_id is None)
        require_allowed(asked.webhook, allowed, token_id=by.token_id)
    key = idempotency_key(request.headers.get("Idempotency-Key"))
    parameters = inputs.parameters.to_json()
    return _submit(
        Submission(
            model=model.name,
            version=model.version,
            queue_name=model.queue_name,
            input=inputs.given,
            parameters=parameters,
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
            request_hash=None if key is None else hash_of_request(),
            cache_key=cache_key_of(model.name, model.version, parameters),
        )
    )


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
