"""Reading a body that is to be a JSON object."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from flask import g, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import Problem

# What is read has to be written again, by functions that call themselves for each level: Python allows about 1,000.
MAX_DEPTH = 64

KINDS = {list: "an array", str: "a string", bool: "true or false", type(None): "null"}


def json_object() -> dict[str, Any]:
    """The object that the request carries. Raises Problem (400, 415), or 413."""
    _require_json()
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
