"""`/openapi.json`, and `/docs`: the same for people, one page that loads nothing from anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from flask import Blueprint, Response, current_app, render_template

from api.auth import open_to_all
from api.browsers.cross_site import for_all_pages
from api.docs.openapi import document
from api.docs.operation import Operation, operations_of
from api.docs.parameters import PARAMETERS
from api.services import services
from storage.predictions.render import dump

blueprint = Blueprint("docs", __name__, template_folder="templates")

KEY = "darkroom-docs"
CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


@blueprint.get("/openapi.json")
@for_all_pages
@open_to_all
def openapi() -> Response:
    return Response(_once("openapi", _openapi_text), content_type="application/json")


@blueprint.get("/docs")
@for_all_pages
@open_to_all
def page() -> Response:
    return Response(
        _once("docs", _page_text),
        content_type="text/html; charset=utf-8",
        headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY},
    )


def _once(name: str, render: Callable[[], str]) -> str:
    """Cache what `render` returns: rendering takes 50 ms of CPU time, and the page needs no token."""
    kept: dict[str, str] = current_app.extensions.setdefault(KEY, {})
    if name not in kept:
        kept[name] = render()
    return kept[name]


def _openapi_text() -> str:
    return dump(_document(operations_of(current_app)))


def _document(operations: Sequence[Operation]) -> dict[str, Any]:
    here = services()
    return document(operations, here.catalog, here.settings.public_url, version=version("darkroom"))


def _page_text() -> str:
    here = services()
    operations = operations_of(current_app)
    return render_template(
        "docs.html",
        document=_document(operations),
        operations=operations,
        parameters=PARAMETERS,
        models=[here.catalog.models[name] for name in sorted(here.catalog.models)],
        url=here.settings.public_url,
        dump=dump,
    )
