"""Liveness (`/healthz`), readiness (`/readyz`), and a short description of the service (`/`)."""

from __future__ import annotations

import psycopg
from flask import Blueprint, Response

from api.auth import open_to_all
from api.browsers.cross_site import for_all_pages
from api.docs.operation import documented
from api.page.views import page, wants_page
from api.services import services
from storage.predictions.render import dump
from storage.s3.bucket import BucketUnavailable
from storage.s3.lost_objects import count_missing

blueprint = Blueprint("health", __name__)


@blueprint.get("/healthz")
@documented("Whether the process lives", {200: None}, section="Operation")
@for_all_pages
@open_to_all
def live() -> Response:
    """This check doesn't query Postgres: an outage of Postgres is no reason to restart the API."""
    return Response(dump({"status": "ok"}), content_type="application/json")


@blueprint.get("/readyz")
@documented("Whether a request would be accepted", {200: None, 503: None}, section="Operation")
@for_all_pages
@open_to_all
def ready() -> Response:
    """200 when a POST would be accepted, 503 with the reason otherwise."""
    here = services()
    checks: dict[str, str] = {}
    missing: int | None = None
    try:
        with here.pool.connection() as conn:
            conn.execute("SELECT 1 FROM predictions LIMIT 1")
            missing = count_missing(conn)
        checks["database"] = "ok"
    except psycopg.Error as error:
        checks["database"] = type(error).__name__
    try:
        here.bucket.check()
        checks["bucket"] = "ok"
    except BucketUnavailable:
        checks["bucket"] = "unavailable"
    checks["listener"] = "ok" if here.events.is_listening else "disconnected"
    ok = all(state == "ok" for state in checks.values())
    body = {
        "status": "ok" if ok else "unavailable",
        "checks": checks,
        "missing_objects": missing,  # doesn't make the API unready: a request for the same images draws them again
        "models": sorted(here.catalog.models),
    }
    return Response(dump(body), 200 if ok else 503, content_type="application/json")


@blueprint.get("/")
@for_all_pages
@open_to_all
def about() -> Response:
    if wants_page():
        return page()
    example = {
        "model": min(services().catalog.models),
        "input": {"prompt": "a red circle on a blue background"},
    }
    url = services().settings.public_url
    return Response(
        "This is Darkroom, a self-hosted text-to-image service with Replicate's API.\n"
        f"Draw:  curl {url}/v1/predictions -H 'Content-Type: application/json' -H 'Prefer: wait' -d '{dump(example)}'\n"
        f"Docs:  {url}/docs, and README.md in the project's folder.\n",
        content_type="text/plain; charset=utf-8",
        headers={"Vary": "Accept"},
    )
