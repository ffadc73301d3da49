"""Lists webhook deliveries, and sends one again."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlencode

import structlog
from flask import Blueprint, Response

from api.auth import caller, needs
from api.docs.operation import documented
from api.errors import InvalidInput, NotFound, Problem
from api.parsing.list_query import query
from api.services import services
from storage.access.scopes import Scope
from storage.postgres.database import Connection, Row
from storage.predictions.render import dump
from storage.webhooks.history import STATUSES, read_deliveries, read_delivery, replay, show

log = structlog.get_logger(__name__)

blueprint = Blueprint("webhook_deliveries", __name__)

PAGE = 100
DELIVERY_ID = re.compile(r"msg_[0-9a-z]{26}")
PREDICTION_ID = re.compile(r"[0-9a-z]{26}")


@blueprint.get("/webhook_deliveries")
@documented(
    "Deliveries, newest first",
    {200: None},
    section="Webhooks",
    query=("cursor", "status", "prediction_id"),
    errors=(422,),
)
@needs(Scope.READ)
def list_() -> Response:
    """Newest first; `?status=`, `?prediction_id=`, and `next` as it was given."""
    given = query("cursor", "prediction_id", "status")
    cursor = _argument(given, "cursor", DELIVERY_ID, "is not a cursor of this list; use `next` as it is")
    prediction_id = _argument(given, "prediction_id", PREDICTION_ID, "is not the id of a prediction")
    status = given.get("status")
    if status is not None and status not in STATUSES:
        raise InvalidInput("status", f"{status[:40]!r} is none of {', '.join(STATUSES)}")
    with services().pool.connection() as conn:
        rows = read_deliveries(
            conn,
            limit=PAGE + 1,
            before=cursor,
            prediction_id=prediction_id,
            status=status,
            token_id=None if caller().is_operator else caller().token_id,
        )
    page = rows[:PAGE]
    following = None
    if len(rows) > PAGE:
        following = f"{_address()}?{urlencode(given | {'cursor': page[-1]['id']})}"
    return _answer({"next": following, "results": [_show(row) for row in page]})


@blueprint.get("/webhook_deliveries/<delivery_id>")
@documented("A delivery", {200: None}, section="Webhooks", errors=(404,))
@needs(Scope.READ)
def get(delivery_id: str) -> Response:
    with services().pool.connection() as conn:
        return _answer(_show(_find_own(conn, delivery_id)))


@blueprint.post("/webhook_deliveries/<delivery_id>/replay")
@documented(
    "Send it again",
    {200: None},
    section="Webhooks",
    errors=(404, 409),
    details="With the same webhook-id and the same body.",
)
@needs(Scope.DRAW)
def send_again(delivery_id: str) -> Response:
    """The same webhook-id and the same body, from the start of the schedule."""
    with services().pool.connection() as conn:
        _find_own(conn, delivery_id)
        row = replay(conn, delivery_id)
    if row is None:
        raise Problem(409, "Conflict", "a later event of its prediction has told more than this one: replay that one")
    log.info("webhook.replayed", delivery_id=delivery_id, prediction_id=row["prediction_id"])
    return _answer(_show(row))


def _show(row: Row) -> dict[str, Any]:
    return show(row, to_token=not caller().is_operator)


def _argument(given: dict[str, str], name: str, form: re.Pattern[str], problem: str) -> str | None:
    value = given.get(name)
    if value is not None and not form.fullmatch(value):
        raise InvalidInput(name, f"{value[:40]!r} {problem}")
    return value


def _find_own(conn: Connection, delivery_id: str) -> Row:
    """The delivery, if its prediction is the caller's or the caller is an operator; to others it does not exist."""
    row = read_delivery(conn, delivery_id) if DELIVERY_ID.fullmatch(delivery_id) else None
    if row is None or not (caller().is_operator or caller().owns(row)):
        raise NotFound(
            f"there is no webhook delivery {delivery_id[:60]!r}, or it was removed with its prediction's data"
        )
    return row


def _address() -> str:
    return f"{services().settings.public_url}/v1/webhook_deliveries"


def _answer(value: object) -> Response:
    return Response(dump(value), content_type="application/json")
