"""`/v1/usage`: what was used, by day, token and model, for accounts."""

from __future__ import annotations

import csv
import io
from datetime import date, timedelta
from typing import cast

from flask import Blueprint, Response, request

from api.auth import caller, needs
from api.docs.answers import Usage
from api.docs.operation import documented
from api.errors import InvalidInput
from api.parsing.list_query import query
from api.services import services
from storage.access.scopes import Scope
from storage.operator.usage import FIELDS, KEYS, Key, read_usage, today_in_utc
from storage.postgres.database import Row
from storage.predictions.render import dump

blueprint = Blueprint("usage", __name__)

DEFAULT_DAYS = 30
MAX_DAYS = 366
MAX_ROWS = 50_000
FORMATS = ("json", "csv")


@blueprint.get("/usage")
@documented(
    "Pictures, steps and GPU seconds by day, token or model",
    {200: Usage},
    section="Account",
    query=("from", "to", "by", "format"),
    errors=(422,),
    details="Its own for a token, of all tokens for one with the scope `admin`. Also as CSV.",
)
@needs(Scope.READ)
def get() -> Response:
    """The usage of all tokens for an operator, else that of the caller's token."""
    given = query("from", "to", "by", "format")
    last = _day("to", given.get("to"))
    if last is None:
        with services().pool.connection() as conn:
            last = today_in_utc(conn)
    first = _day("from", given.get("from")) or last - timedelta(days=DEFAULT_DAYS - 1)
    if not 0 <= (last - first).days < MAX_DAYS:
        raise InvalidInput("from", f"{first} to {last} is not a time of 1 to {MAX_DAYS} days")
    by = _keys(given.get("by", "day"))
    token_id = None if caller().is_operator else caller().token_id
    with services().pool.connection() as conn:
        rows = read_usage(conn, first=first, last=last, by=by, token_id=token_id, limit=MAX_ROWS + 1)
    if len(rows) > MAX_ROWS:
        raise InvalidInput("by", f"{','.join(by)} gives more than {MAX_ROWS} rows: ask for fewer days or keys")
    if _format(given.get("format")) == "csv":
        return _csv(by, rows, f"usage-{first}-{last}.csv")
    results = [usage_row(row) for row in rows]
    body = {"from": first.isoformat(), "to": last.isoformat(), "by": list(by), "results": results}
    return Response(dump(body), content_type="application/json")


def _day(name: str, text: str | None) -> date | None:
    if text is None:
        return None
    try:
        if len(text) != len("2026-01-31"):
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInput(name, f"{text[:40]!r} is not a day such as 2026-01-31") from None


def _keys(text: str) -> list[Key]:
    names = text.split(",")
    if len(set(names)) < len(names) or not set(names) <= set(KEYS):
        raise InvalidInput("by", f"{text[:60]!r} is not one or several of {', '.join(KEYS)}, separated by commas")
    return cast("list[Key]", names)


def _format(asked: str | None) -> str:
    if asked is None:
        return "csv" if request.accept_mimetypes.best_match(["application/json", "text/csv"]) == "text/csv" else "json"
    if asked not in FORMATS:
        raise InvalidInput("format", f"{asked[:40]!r} is none of {', '.join(FORMATS)}")
    return asked


def usage_row(row: Row) -> Row:
    """As JSON and CSV have it."""
    day = {"day": row["day"].isoformat()} if "day" in row else {}
    return row | day | {"gpu_seconds": round(row["gpu_seconds"], 3)}


def _csv(by: list[Key], rows: list[Row], name: str) -> Response:
    text = io.StringIO()
    lines = csv.DictWriter(text, [*by, *FIELDS], lineterminator="\r\n")  # RFC 4180
    lines.writeheader()
    lines.writerows(usage_row(row) for row in rows)
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(text.getvalue(), headers=headers, content_type="text/csv; charset=utf-8; header=present")
