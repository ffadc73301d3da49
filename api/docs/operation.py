"""`@documented` says at a view what its route does; `/openapi.json` and `/docs` are made from all of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from flask import Flask
from pydantic import BaseModel

from api.auth import OPEN
from api.docs.answers import ProblemDocument

JSON = "application/json"
SUBMIT_ERRORS = (400, 413, 422, 429)
# In the order of the page. Within a section, operations stand in the order in which their routes are registered.
SECTIONS = ("Predictions", "Live", "Files", "OpenAI", "Models", "Deployments", "Account", "Webhooks", "Operation")

DOCUMENTED = "darkroom_documented"
View = TypeVar("View", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operation:
    """One method of one path. `answers`: the schema by status; None for a body that is no JSON of ours."""

    summary: str
    answers: dict[int, type[BaseModel] | None]
    section: str = "Predictions"
    details: str = ""
    body: type[BaseModel] | None = None
    form: type[BaseModel] | None = None  # a body that is multipart/form-data
    needs_body: bool = True
    headers: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    parameters: dict[str, dict[str, object]] = field(default_factory=dict)  # instead of those in PARAMETERS
    media: str = JSON
    errors: tuple[int, ...] = ()
    error: type[BaseModel] = ProblemDocument
    example: dict[str, object] | None = None
    # The route's, and not to be given to `documented`:
    method: str = ""
    path: str = ""
    is_open: bool = False


def documented(summary: str, answers: dict[int, type[BaseModel] | None], **more: Any) -> Callable[[View], View]:
    """Describe the route of a view; `more` is the rest of Operation."""
    operation = Operation(summary, answers, **more)

    def mark(view: View) -> View:
        setattr(view, DOCUMENTED, operation)
        return view

    return mark


def operations_of(app: Flask) -> list[Operation]:
    """The operations of all documented routes, in the order of the page."""
    return sorted(_operations_of(app), key=lambda each: SECTIONS.index(each.section))


def _operations_of(app: Flask) -> Iterator[Operation]:
    rules = list(app.url_map.iter_rules())
    paths = {rule.rule for rule in rules}
    seen = set()
    for rule in rules:
        view = app.view_functions[rule.endpoint]
        operation = getattr(view, DOCUMENTED, None)
        if operation is None or f"/v1{rule.rule}" in paths:  # the same route without /v1
            continue
        path = re.sub(r"<(?:[^:>]+:)?([^>]+)>", r"{\1}", rule.rule)
        for method in sorted((rule.methods or set()) - {"HEAD", "OPTIONS"}):
            if (method, path) not in seen:  # a WebSocket is a route of its own with the same view
                seen.add((method, path))
                yield replace(operation, method=method.lower(), path=path, is_open=hasattr(view, OPEN))
