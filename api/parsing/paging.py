"""Splits a list, newest first, into pages, and gives the URLs of the next and the previous page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode

from flask import request

from api.parsing.cursor import Cursor, Direction, decode_cursor
from api.services import services
from storage.postgres.database import Row
from storage.predictions.lists.page import Page


@dataclass(frozen=True)
class ListPage:
    """`next` is older, `previous` newer, as Replicate's clients expect; None where there is no such page."""

    rows: list[Row]
    next: str | None
    previous: str | None


def asked_page(cursor: str | None, limit: int, **window: datetime | None) -> Page:
    """What to read for a page of `limit` rows: one row more, which says whether there is another page.

    `window`: `created_after` and `created_before`. Raises InvalidInput for a cursor that isn't ours.
    """
    at = decode_cursor(cursor) if cursor is not None else None
    return Page(
        limit=limit + 1,
        before=at.position if at is not None and at.direction == "older" else None,
        after=at.position if at is not None and at.direction == "newer" else None,
        **window,
    )


def list_page(read: list[Row], page: Page, path: str) -> ListPage:
    """The rows to show of those that were read for `page`, newest first. `path` is the list's own."""
    limit = page.limit - 1
    more = len(read) > limit
    rows = read[-limit:] if page.is_forward else read[:limit]
    has_older, has_newer = (bool(rows), more) if page.is_forward else (more, page.before is not None)
    return ListPage(
        rows,
        next=_url(path, "older", rows[-1]) if rows and has_older else None,
        previous=_url(path, "newer", rows[0]) if rows and has_newer else None,
    )


def _url(path: str, direction: Direction, beside: Row) -> str:
    """The same list, read on in that direction from this row."""
    cursor = Cursor(direction, beside["created_at"], beside["id"])
    same_list = {name: value for name, value in request.args.items() if name != "cursor"}
    return f"{services().settings.public_url}{path}?{urlencode(same_list | {'cursor': cursor.encode()})}"
