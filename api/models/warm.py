"""Keep a model ready before its first request: `POST /v1/models/{owner}/{name}/warm`, and `Prefer: warm`."""

from __future__ import annotations

import structlog
from flask import Blueprint, Response

from api.auth import needs
from api.docs.answers import KeptWarm
from api.docs.operation import documented
from api.models.asked_model import model_in_path
from api.parsing.json_body import optional_json_object
from api.parsing.validation import validated
from api.schemas import WarmRequest
from api.services import services
from storage.access.scopes import Scope
from storage.catalog import Model
from storage.postgres.database import Connection
from storage.predictions.render import dump, timestamp
from storage.workers.registry import count_workers
from storage.workers.warm import keep_warm

log = structlog.get_logger(__name__)

blueprint = Blueprint("warm", __name__)


@blueprint.post("/models/<owner>/<name>/warm")
@documented(
    "Have a worker ready before the first request",
    {202: KeptWarm},
    section="Models",
    body=WarmRequest,
    needs_body=False,
    errors=(400, 404, 413, 422),
    example={"seconds": 300},
)
@needs(Scope.DRAW)
def warm(owner: str, name: str) -> Response:
    model = model_in_path(f"{owner}/{name}")
    asked = validated(WarmRequest, optional_json_object())
    with services().pool.connection() as conn:
        until = keep_warm(conn, model.name, asked.seconds)
        body = {"model": model.name, "warm_until": timestamp(until), "workers": count_workers(conn, model.name)}
    log.info("model.kept_warm", model=model.name, until=timestamp(until))
    return Response(dump(body), 202, content_type="application/json")


def keep_warm_as_preferred(conn: Connection, model: Model, seconds: int) -> None:
    """What `Prefer: warm` does beside a prediction."""
    keep_warm(conn, model.name, seconds)
    log.info("model.kept_warm", model=model.name, seconds=seconds)
