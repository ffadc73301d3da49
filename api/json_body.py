"""Reading a body that is to be a JSON object."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from flask import g, request
from werkzeug.exceptions import RequestEntityTooLarge

from api.errors import Problem


def json_object() -> dict[str, Any]:
    """The object that the request carries, whatever content type it names. Raises Problem (400), or 413."""
    raw = request.get_data(cache=False)
    # Werkzeug refuses a body by its Content-Length; a chunked one it only cuts off at the limit.
    limit = request.max_content_length
    if limit is not None and len(raw) >= limit and request.environ["wsgi.input"].read(1):
        raise RequestEntityTooLarge
    try:
        body = json.loads(raw, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):  # ValueError: also wrong UTF-8, and numbers of thousands of digits
        body = None
    if not isinstance(body, dict):
        raise Problem(400, "Bad request", "the body needs to be a JSON object")
    g.json_body = body
    return body


def read_object() -> dict[str, Any]:
    """The object that `json_object` has read from this request."""
    body: dict[str, Any] = g.json_body
    return body


def _refuse_constant(name: str) -> NoReturn:
    """Python reads NaN and Infinity, which are not JSON and which Postgres refuses to store."""
    raise ValueError(name)
