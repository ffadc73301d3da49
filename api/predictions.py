"""Replicate's predictions API: create, get, list, cancel."""

from __future__ import annotations

import time

import structlog
from flask import Blueprint, Response, request

from api.accept import accept
from api.asked_model import model_asked_for, model_in_path
from api.auth import caller, needs
from api.docs.answers import Prediction, PredictionPage
from api.docs.operation import SUBMIT_ERRORS, documented
from api.docs.parameters import FILTERS, SUBMIT_HEADERS
from api.errors import NotFound, Problem
from api.live.waiting import wait_until_over
from api.ownership import find_own
from api.parsing.json_body import json_object
from api.parsing.list_request import PARAMETERS as LIST_PARAMETERS
from api.parsing.list_request import list_request
from api.parsing.paging import list_page
from api.parsing.prefer import cancel_after_s, wait_s, warm_s
from api.parsing.validation import validated
from api.pictures.large_bodies import may_carry_pictures
from api.schemas import KeepRequest, PredictionRequest
from api.services import Services, services
from api.warm import keep_warm_as_preferred
from storage.access.scopes import Scope
from storage.catalog import Model
from storage.postgres.database import Row
from storage.predictions.delete import delete_prediction
from storage.predictions.finish import Canceled, finish
from storage.predictions.keep import set_keep
from storage.predictions.read import with_images
from storage.predictions.render import dump
from storage.predictions.states import PredictionStatus

log = structlog.get_logger(__name__)

blueprint = Blueprint("predictions", __name__)


@blueprint.post("/predictions")
@documented(
    "Draw",
    {201: Prediction},
    body=PredictionRequest,
    headers=SUBMIT_HEADERS,
    errors=SUBMIT_ERRORS,
    example={"input": {"prompt": "a red circle on a blue background"}},
    details="Answers at once, or with `Prefer: wait` when the picture is done. With an `Idempotency-Key`, the "
    "same request again is the same prediction.",
)
@needs(Scope.DRAW)
@may_carry_pictures
def create() -> Response:
    return create_with()


@blueprint.post("/models/<owner>/<name>/predictions")
@documented(
    "Draw with the model of the path",
    {201: Prediction},
    body=PredictionRequest,
    headers=SUBMIT_HEADERS,
    errors=(*SUBMIT_ERRORS, 404),
    example={"input": {"prompt": "a red circle on a blue background"}},
)
@needs(Scope.DRAW)
@may_carry_pictures
def create_for_model(owner: str, name: str) -> Response:
    return create_with(model_in_path(f"{owner}/{name}"))


@blueprint.get("/predictions/<prediction_id>")
@documented("Read one", {200: Prediction}, errors=(404,))
@needs(Scope.READ)
def get(prediction_id: str) -> Response:
    with services().pool.connection() as conn:
        return _answer(services().body_of(conn, find_own(conn, prediction_id)))


@blueprint.post("/predictions/<prediction_id>/cancel")
@documented("Cancel", {200: Prediction}, errors=(404,), details="At once; one that is over stays as it is.")
@needs(Scope.DRAW)
def cancel(prediction_id: str) -> Response:
    with services().pool.connection() as conn:
        find_own(conn, prediction_id)
        if finish(conn, services().renderer, prediction_id, Canceled()) is not None:
            log.info("prediction.canceled", prediction_id=prediction_id)
        return _answer(services().body_of(conn, find_own(conn, prediction_id)))


@blueprint.delete("/predictions/<prediction_id>")
@documented(
    "Delete",
    {204: None},
    errors=(404,),
    details="It is canceled first if it isn't over. Its data and images go, and its webhooks are not sent.",
)
@needs(Scope.DRAW)
def delete(prediction_id: str) -> Response:
    with services().pool.connection() as conn:
        find_own(conn, prediction_id)
        if not delete_prediction(conn, services().renderer, prediction_id):
            raise NotFound(f"there is no prediction {prediction_id!r}")
    log.info("prediction.deleted", prediction_id=prediction_id)
    return Response(status=204)


@blueprint.post("/predictions/<prediction_id>/keep")
@documented(
    "Keep beyond the retention time",
    {200: Prediction},
    body=KeepRequest,
    needs_body=False,
    errors=(400, 404, 410, 413, 422),
    example={"keep": True},
)
@needs(Scope.DRAW)
def keep(prediction_id: str) -> Response:
    has_body = request.content_length or "Transfer-Encoding" in request.headers
    asked = validated(KeepRequest, json_object() if has_body else {})
    with services().pool.connection() as conn:
        find_own(conn, prediction_id)
        row = set_keep(conn, prediction_id, keep=asked.keep)
        if row is None:
            raise Problem(410, "Gone", "its data was removed after the retention time (RETENTION_S)")
        return _answer(services().body_of(conn, row))


@blueprint.get("/predictions")
@documented(
    "List and search, newest first",
    {200: PredictionPage},
    query=LIST_PARAMETERS,
    parameters=FILTERS,
    errors=(422,),
    details="A prediction is listed if it passes all filters that are given.",
)
@needs(Scope.READ)
def list_() -> Response:
    asked = list_request()
    with services().pool.connection() as conn:
        found = list_page(asked.read(conn, caller().token_id), asked.page, "/v1/predictions")
        rows, images = with_images(conn, found.rows)
    shown = [services().answers.prediction(row, images[row["id"]]) for row in rows]
    return _answer(dump({"next": found.next, "previous": found.previous, "results": shown}))


def create_with(in_path: Model | None = None) -> Response:
    """Create a prediction from the request's body. `in_path`: the model that the path names."""
    here = services()
    asked = validated(PredictionRequest, json_object(with_pictures=True))
    model = model_asked_for(asked, in_path)
    wait = wait_s(request.headers.get("Prefer"))
    accepted = accept(asked, model, deadline_s=cancel_after_s(request.headers.get("Cancel-After")))
    applied = {}
    if (warm := warm_s(request.headers.get("Prefer"))) is not None:
        with here.pool.connection() as conn:
            keep_warm_as_preferred(conn, model, warm)
        applied = {"Preference-Applied": f"warm={warm}"}
    # Where too many wait already, this one is answered at once, which the preference allows: the client polls.
    owner = caller().token_id
    if wait is None or not here.waiting.take(owner):
        if accepted.is_new:
            return _answer(here.renderer.body(accepted.row, []), 201, applied)
        with here.pool.connection() as conn:
            return _answer(here.body_of(conn, accepted.row), 201, applied)
    applied = {"Preference-Applied": ", ".join([f"wait={wait}", *applied.values()])}
    try:
        return _answer(_wait(here, accepted.row, wait), 201, applied)
    finally:
        here.waiting.give_back(owner)


def _wait(here: Services, row: Row, timeout_s: int) -> str:
    """The prediction when it is over, or as it is after `timeout_s`.

    Where the time is up first the body says `starting`, also when it is processing: the clients take anything else
    for the end. Where the client has left, it waits no longer; the prediction goes on, for its webhook or a later GET.
    Raises AccessEnded.
    """
    waited = wait_until_over(here, row, give_up_at=time.monotonic() + timeout_s)
    if waited.over is not None:
        return here.answers.body(waited.over.row, waited.over.images)
    return here.renderer.body(dict(waited.row) | {"status": PredictionStatus.STARTING.value}, [])


def _answer(body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, content_type="application/json")
