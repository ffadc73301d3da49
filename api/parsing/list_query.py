"""The query of a list: what it may hold is named; anything else is refused, not ignored."""

from __future__ import annotations

from flask import request

from api.errors import InvalidInput
from api.parsing.validation import shown_name


def query(*known: str) -> dict[str, str]:
    """The parameters of the request's query. Raises InvalidInput for one that this list doesn't know or gets twice."""
    takes = f"it takes {', '.join(known)}" if known else "it takes no parameters"
    given: dict[str, str] = {}
    for name, values in request.args.lists():
        if name not in known:
            raise InvalidInput(shown_name(name), f"is not a query parameter of this list; {takes}")
        if len(values) > 1:
            raise InvalidInput(name, f"is given {len(values)} times; this list takes it once")
        given[name] = values[0]
    return given
