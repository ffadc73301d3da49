"""Replicate's predictions API: create, get, list, cancel."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from urllib.parse import urlencode

import structlog
from flask import Blueprint, Response, request
from pydantic import ValidationError

from api.auth import caller
from api.errors import InvalidInput, NotFound
from api.inputs import invalid, notes_on, parameters_for, parse_input, shown_name
from api.live.client_connection import LOOK_EVERY_S, client_connection, expect_answers, has_hung_up
from api.live.watch import Snapshot, watch
from api.ownership import find_own
from api.parsing.cursor import Cursor, decode_cursor, parse_moment
from api.parsing.idempotency_key import hash_of_request, idempotency_key
from api.parsing.json_body import json_object
from api.parsing.list_query import query
from api.parsing.prefer import cancel_after_s, wait_s
from api.schemas import PredictionInput, PredictionRequest
from api.services import Services, services
from api.webhook_targets import require_allowed
from storage.catalog import Model
from storage.errors import UnknownModel
from storage.postgres.database import Row
from storage.predictions.finish import Canceled, finish
from storage.predictions.read import read_predictions, with_images
from storage.predictions.render import dump
from storage.predictions.result_cache import cache_key_of, reuse_result
from storage.predictions.states import PredictionStatus
from storage.predictions.submit import Submission, ring, submit
from storage.webhooks.events import filter_of

log = structlog.get_logger(__name__)

blueprint = Blueprint("predictions", __name__)

PAGE = 100
# Replicate's parameter. Here all predictions are made with the API.
SOURCES = ("api", "web")


@blueprint.post("/predictions")
def create() -> Response:
    asked = _parse_body()
    return _create(asked, _find_model(asked))


@blueprint.post("/models/<owner>/<name>/predictions")
def create_for_model(owner: str, name: str) -> Response:
    try:
        model = services().catalog.find(f"{owner}/{name}")
    except UnknownModel as error:
        raise NotFound(str(error)) from None
    asked = _parse_body()
    if asked.model is not None and _known("model", asked.model) is not model:
        raise InvalidInput("model", f"{asked.model!r} is another model than {model.name}, which the path names")
    return _create(asked, _fitting(model, asked.version))


@blueprint.get("/predictions/<prediction_id>")
def get(prediction_id: str) -> Response:
    with services().pool.connection() as conn:
        return _answer(services().body_of(conn, find_own(conn, prediction_id)))


@blueprint.post("/predictions/<prediction_id>/cancel")
def cancel(prediction_id: str) -> Response:
    with services().pool.connection() as conn:
        find_own(conn, prediction_id)
        if finish(conn, services().wire, prediction_id, Canceled()) is not None:
            log.info("prediction.canceled", prediction_id=prediction_id)
        return _answer(services().body_of(conn, find_own(conn, prediction_id)))


@blueprint.get("/predictions")
def list_() -> Response:
    given = query("cursor", "created_after", "created_before", "source")
    cursor = decode_cursor(given["cursor"]) if "cursor" in given else None
    window = {name: parse_moment(name, given[name]) for name in ("created_after", "created_before") if name in given}
    if given.get("source", "api") not in SOURCES:
        raise InvalidInput("source", f"{given['source'][:40]!r} is none of {', '.join(SOURCES)}")
    older = cursor is None or cursor.direction == "older"
    with services().pool.connection() as conn:
        rows = read_predictions(
            conn,
            before=cursor.position if cursor and older else None,
            after=cursor.position if cursor and not older else None,
            limit=PAGE + 1,
            token_id=caller().token_id,
            created_after=window.get("created_after"),
            created_before=window.get("created_before"),
            source=given.get("source"),
        )
        more = len(rows) > PAGE
        rows = rows[:PAGE] if older else rows[-PAGE:]
        rows, images = with_images(conn, rows)
    wire = services().answers
    has_older = more if older else bool(rows)
    has_newer = (cursor is not None) if older else more
    return _answer(
        dump(
            {
                "next": _page_url(Cursor("older", rows[-1]["created_at"], rows[-1]["id"]))
                if rows and has_older
                else None,
                "previous": _page_url(Cursor("newer", rows[0]["created_at"], rows[0]["id"]))
                if rows and has_newer
                else None,
                "results": [wire.prediction(row, images[row["id"]]) for row in rows],
            }
        )
    )


def _create(asked: PredictionRequest, model: Model) -> Response:
    here = services()
    wait = wait_s(request.headers.get("Prefer"))
    row, is_new = accept(asked, model, deadline_s=cancel_after_s(request.headers.get("Cancel-After")))
    # Where too many wait already, this one is answered at once, which the preference allows: the client polls.
    if wait is None or not here.waiting.take():
        if is_new:
            return _answer(here.wire.body(row, []), 201)
        with here.pool.connection() as conn:
            return _answer(here.body_of(conn, row), 201)
    try:
        return _answer(_wait(here, row, wait), 201, {"Preference-Applied": f"wait={wait}"})
    finally:
        here.waiting.give_back()


def accept(asked: PredictionRequest, model: Model, *, deadline_s: float | None) -> tuple[Row, bool]:
    """Check a request against its model and submit it; every route that draws goes through here.

    Returns the prediction and whether it is a new one: its Idempotency-Key may have made it before. Raises Problem,
    KeyReused, QuotaExceeded.
    """
    here, by = services(), caller()
    inputs = parse_input(asked.input)
    if request.headers.get("X-Darkroom-Strict") == "1":
        _refuse_unknown(asked, inputs)
    if inputs.priority > by.max_priority:
        raise InvalidInput("input.priority", f"{inputs.priority} is above {by.max_priority}, the token's limit")
    parameters = replace(parameters_for(model, inputs), previews=inputs.previews or bool(asked.previews))
    if asked.webhook is not None:
        allowed = here.webhook_targets.now(is_open=by.token_id is None)
        require_allowed(asked.webhook, allowed, token_id=by.token_id)
    key = idempotency_key(request.headers.get("Idempotency-Key"))
    stored = parameters.to_json()
    submission = Submission(
        model=model.name,
        version=model.version,
        queue_name=model.queue_name,
        input=inputs.model_dump(exclude_unset=True, exclude=set(inputs.model_extra or {})),
        parameters=stored,
        logs=notes_on(inputs, parameters),
        deadline_s=min(deadline_s or math.inf, here.settings.prediction_deadline_s),
        webhook=asked.webhook,
        webhook_events=() if asked.webhook is None else filter_of(asked.webhook_events_filter),
        priority=inputs.priority,
        token_id=by.token_id,
        quota=by.quota,
        idempotency_key=key,
        request_hash=None if key is None else hash_of_request(),
        cache_key=cache_key_of(model.name, model.version, stored),
    )
    with here.pool.connection() as conn:
        row = submit(conn, submission, here.wire)
        is_new = row["id"] == submission.id
        log.info("prediction.created" if is_new else "prediction.repeated", prediction_id=row["id"], model=model.name)
        if is_new and row["drawn_before"]:
            if (reused := reuse_result(conn, here.wire, here.bucket, row)) is not None:
                log.info("prediction.reused", prediction_id=row["id"])
                return reused, False
            ring(conn, row["id"])  # retention has just taken the images, or the bucket has lost them
    return row, is_new


def _refuse_unknown(asked: PredictionRequest, inputs: PredictionInput) -> None:
    if asked.model_extra:
        raise InvalidInput(
            shown_name(min(asked.model_extra)),
            "is not known here (X-Darkroom-Strict is 1); a model's inputs are in `input`",
        )
    if inputs.model_extra:
        raise InvalidInput(
            f"input.{shown_name(min(inputs.model_extra))}", "is no input of this model (X-Darkroom-Strict is 1)"
        )


def _wait(here: Services, row: Row, timeout_s: int) -> str:
    """The prediction when it is over, or as it is after `timeout_s`.

    Where the time is up first the body says `starting`, also when it is processing: the clients take anything else
    for the end. Where the client has left, it waits no longer; the prediction goes on, for its webhook or a later GET.
    Raises AccessEnded.
    """
    current = row
    give_up_at = time.monotonic() + timeout_s
    connection = client_connection()
    expect_answers(connection)
    for seen in watch(here, row["id"], caller().access, give_up_at=give_up_at, tick_s=lambda: LOOK_EVERY_S):
        if isinstance(seen, Snapshot):
            current = seen.row
            if seen.is_over:
                return here.answers.body(seen.row, seen.images)
        elif has_hung_up(connection):
            break
    return here.wire.body(dict(current) | {"status": PredictionStatus.STARTING.value}, [])


def _parse_body() -> PredictionRequest:
    body = json_object()
    try:
        return PredictionRequest.model_validate(body)
    except ValidationError as error:
        raise invalid(error) from None


def _find_model(asked: PredictionRequest) -> Model:
    """The model that `model` or `version` names. Raises InvalidInput."""
    if asked.model is None and asked.version is None:
        raise InvalidInput("model", "is required: owner/name, or `version` as owner/name:version")
    if asked.model is None:
        return _known("version", asked.version or "")
    return _fitting(_known("model", asked.model), asked.version)


def _fitting(model: Model, version: str | None) -> Model:
    """The model, if `version` is one of its versions, with or without its name. Raises InvalidInput."""
    if version is not None:
        names_a_model = "/" in version or ":" in version
        other = _known("version", version if names_a_model else f"{model.name}:{version}")
        if other is not model:
            raise InvalidInput("version", f"{version!r} belongs to {other.name}, but the request is for {model.name}")
    return model


def _known(field: str, reference: str) -> Model:
    try:
        return services().catalog.find(reference)
    except UnknownModel as error:
        raise InvalidInput(field, str(error)) from None


def _page_url(cursor: Cursor) -> str:
    same_list = {name: value for name, value in request.args.items() if name != "cursor"}
    return f"{services().settings.public_url}/v1/predictions?{urlencode(same_list | {'cursor': cursor.encode()})}"


def _answer(body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, content_type="application/json")
