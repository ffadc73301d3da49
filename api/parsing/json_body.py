"""Reads a request body as a JSON object."""

from __future__ import annotations

import io
import json
from typing import Any, NoReturn

from flask import g, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import Problem
from api.pictures.asked import ALL_FIELDS
from api.pictures.sent import with_data_urls_kept
from api.services import services

# What is read has to be written again, by functions that call themselves for each level: Python allows about 1,000.
MAX_DEPTH = 64

KINDS = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}


# What a large body takes while it is read: its bytes, the text, the strings in it, and those again as they are decoded.
PARSED_TIMES = 5


def json_object(*, with_pictures: bool = False) -> dict[str, Any]:
    """The object that the request carries. Raises Problem (400, 415), or 413.

    `with_pictures`: its `input` may hold pictures as data: URLs, in place of which descriptions are returned
    (`api.pictures.sent`). Then it may be large. Raises InvalidInput where one can't be read, and Problem (503).
    """
    _require_json()
    if not with_pictures:
        return _read()
    size_bytes = _size_bytes()
    if size_bytes <= services().settings.max_body_bytes:
        return _with_pictures_kept(_read())
    with services().picture_memory.of(PARSED_TIMES * size_bytes):
        return _with_pictures_kept(_read())


def optional_json_object() -> dict[str, Any]:
    """The same for a route whose body may be left out: {} then."""
    has_body = request.content_length or "Transfer-Encoding" in request.headers
    return json_object() if has_body else {}


def _size_bytes() -> int:
    """The size of the body. A chunked body has been received too, and is kept in a file (`api/server`)."""
    if request.content_length is not None:
        return request.content_length
    body = request.environ["wsgi.input"]
    if not body.seekable():
        return services().settings.max_upload_bytes
    size_bytes: int = body.seek(0, io.SEEK_END)
    body.seek(0)
    return size_bytes


def _with_pictures_kept(body: dict[str, Any]) -> dict[str, Any]:
    if isinstance(body.get("input"), dict):
        body["input"] = with_data_urls_kept(body["input"], ALL_FIELDS)
    g.json_body = body
    return body


def _read() -> dict[str, Any]:
    raw = request.get_data(cache=False)
    # Werkzeug refuses a body by its Content-Length; a chunked one it only cuts off at the limit.
    limit = request.max_content_length
    if limit is not None and len(raw) >= limit and request.environ["wsgi.input"].read(1):
        raise RequestEntityTooLarge
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        # What Python says about it repeats nothing of the body, which may hold secrets.
        raise _no_object(f"line {error.lineno}, column {error.colno}: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise _no_object(f"byte {error.start + 1} is not {error.encoding.upper()}") from None
    except RecursionError:
        raise _no_object("it is nested too deeply") from None
    except ValueError:
        raise _no_object("a number has thousands of digits") from None
    if raw.count(b"[") + raw.count(b"{") > MAX_DEPTH and _is_deeper_than(MAX_DEPTH, body):
        raise _no_object("it is nested too deeply")
    if not isinstance(body, dict):
        raise _no_object(f"this is {KINDS.get(type(body), 'a number')}")
    g.json_body = body
    return body


def _require_json() -> None:
    """A web page needs permission (CORS) to send this content type to another origin; without it it needs none."""
    if not request.is_json:
        raise Problem(
            415,
            "Unsupported media type",
            "the body needs to be JSON, and the request has to say so: send `Content-Type: application/json` (this one "
            + (f"says {request.mimetype[:60]!r})" if request.mimetype else "has no Content-Type)"),
        )


def read_object() -> dict[str, Any]:
    """The object that `json_object` has read from this request."""
    body: dict[str, Any] = g.json_body
    return body


def _is_deeper_than(levels: int, value: Any) -> bool:
    """Whether arrays and objects are nested in more than so many levels; it goes through them level by level."""
    inside = [value]
    for _ in range(levels + 1):
        containers = [each for each in inside if isinstance(each, (dict, list))]
        if not containers:
            return False
        inside = [part for each in containers for part in (each.values() if isinstance(each, dict) else each)]
    return True


def _refuse_constant(name: str) -> NoReturn:
    """Python reads NaN and Infinity, which are not JSON and which Postgres refuses to store."""
    raise _no_object(f"{name} is not JSON")


def _no_object(reason: str) -> Problem:
    return Problem(400, "Bad request", f"the body needs to be a JSON object: {reason}")
