"""`/openapi.json`, and `/docs`: the same for people, one page that loads nothing from anywhere."""

from __future__ import annotations

from importlib.metadata import version

from flask import Blueprint, Response, render_template

from api.auth import open_to_all
from api.docs.openapi import document
from api.docs.operations import OPERATIONS, PARAMETERS
from api.services import services
from storage.predictions.render import dump

blueprint = Blueprint("docs", __name__, template_folder="templates")

CONTENT_SECURITY_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


@blueprint.get("/openapi.json")
@open_to_all
def openapi() -> Response:
    here = services()
    return Response(
        dump(document(here.catalog, here.settings.public_url, version=version("darkroom"))),
        content_type="application/json",
    )


@blueprint.get("/docs")
@open_to_all
def page() -> Response:
    here = services()
    described = document(here.catalog, here.settings.public_url, version=version("darkroom"))
    text = render_template(
        "docs.html",
        document=described,
        operations=OPERATIONS,
        parameters=PARAMETERS,
        models=[here.catalog.models[name] for name in sorted(here.catalog.models)],
        url=here.settings.public_url,
        dump=dump,
    )
    return Response(
        text,
        content_type="text/html; charset=utf-8",
        headers={"Content-Security-Policy": CONTENT_SECURITY_POLICY},
    )
