"""Replicate's predictions API: create, get, list, cancel."""

from __future__ import annotations

import structlog
from flask import Blueprint, Response

from api.auth import caller, needs
from api.docs.answers import Prediction, PredictionPage
from api.docs.operation import SUBMIT_ERRORS, documented
from api.docs.parameters import FILTERS, SUBMIT_HEADERS
from api.errors import NotFound, Problem
from api.models.asked_model import model_in_path
from api.parsing.json_body import optional_json_object
from api.parsing.list_request import PARAMETERS as LIST_PARAMETERS
from api.parsing.list_request import list_request
from api.parsing.paging import list_page
from api.parsing.validation import validated
from api.pictures.large_bodies import may_carry_pictures
from api.predictions.create import EXAMPLE, create_prediction
from api.predictions.ownership import find_own
from api.schemas import KeepRequest, PredictionRequest
from api.services import services
from storage.access.scopes import Scope
from storage.predictions.finish import Canceled, finish
from storage.predictions.read import with_images
from storage.predictions.render import dump
from storage.predictions.retention.delete import delete_prediction
from storage.predictions.retention.keep import set_keep

log = structlog.get_logger(__name__)

blueprint = Blueprint("predictions", __name__)


@blueprint.post("/predictions")
@documented(
    "Draw",
    {201: Prediction},
    body=PredictionRequest,
    headers=SUBMIT_HEADERS,
    errors=SUBMIT_ERRORS,
    example=EXAMPLE,
    details="Answers at once, or with `Prefer: wait` when the picture is done. With an `Idempotency-Key`, the "
    "same request again is the same prediction.",
)
@needs(Scope.DRAW)
@may_carry_pictures
def create() -> Response:
    return create_prediction()


@blueprint.post("/models/<owner>/<name>/predictions")
@documented(
    "Draw with the model of the path",
    {201: Prediction},
    body=PredictionRequest,
    headers=SUBMIT_HEADERS,
    errors=(*SUBMIT_ERRORS, 404),
    example=EXAMPLE,
)
@needs(Scope.DRAW)
@may_carry_pictures
def create_for_model(owner: str, name: str) -> Response:
    return create_prediction(model_in_path(f"{owner}/{name}"))


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
    asked = validated(KeepRequest, optional_json_object())
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


def _answer(body: str, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(body, status, headers, content_type="application/json")
