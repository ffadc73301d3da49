"""What all of Replicate's routes that draw have in common: they accept a prediction, and wait for it if asked to."""

from __future__ import annotations

import time

from flask import Response, request

from api.auth import caller
from api.live.waiting import wait_until_over
from api.models.asked_model import model_asked_for
from api.models.warm import keep_warm_as_preferred
from api.parsing.json_body import json_object
from api.parsing.prefer import cancel_after_s, wait_s, warm_s
from api.parsing.validation import validated
from api.predictions.accept import accept
from api.schemas import PredictionRequest
from api.services import Services, services
from storage.catalog import Model
from storage.postgres.database import Row
from storage.predictions.states import PredictionStatus

# For the documentation of the routes.
EXAMPLE: dict[str, object] = {"input": {"prompt": "a red circle on a blue background"}}


def create_prediction(in_path: Model | None = None) -> Response:
    """The answer to a request to draw, with `Prefer: wait` when it is drawn. `in_path`: the model of the path."""
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
            return _created(here.renderer.body(accepted.row, []), applied)
        with here.pool.connection() as conn:
            return _created(here.body_of(conn, accepted.row), applied)
    applied = {"Preference-Applied": ", ".join([f"wait={wait}", *applied.values()])}
    try:
        return _created(_wait(here, accepted.row, wait), applied)
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


def _created(body: str, headers: dict[str, str] | None = None) -> Response:
    return Response(body, 201, headers, content_type="application/json")
