"""`/` for browsers and `/status`, and the files that they load."""

from __future__ import annotations

import gzip
from functools import lru_cache
from urllib.parse import urlsplit

from flask import Blueprint, Response, request

from api.auth import open_to_all
from api.browsers.cross_site import for_all_pages
from api.compression import accepts_gzip
from api.docs.operation import documented
from api.errors import NotFound
from api.page.assets import Asset, Assets
from api.services import services

blueprint = Blueprint("page", __name__)

FOR_EVER = "public, max-age=31536000, immutable"


@blueprint.get("/assets/<version>/<path:name>")
@for_all_pages
@open_to_all
def asset(version: str, name: str) -> Response:
    """A file of the page. Its URL names a version, so that it may be kept for ever."""
    assets = _assets()
    if version != assets.version or name not in assets.files:
        raise NotFound("there is no such file in this version of the page: reload it")
    return _response(assets.files[name], FOR_EVER)


@blueprint.get("/status")
@documented(
    "The state of the deployment",
    {200: None},
    section="Operation",
    errors=(422,),
    details="Queues, workers, durations, failures, webhooks, usage. It needs the scope `admin`.",
)
@for_all_pages
@open_to_all
def status() -> Response:
    """The page for operators. What it shows comes from /v1/status, which needs a token."""
    return page("status.html")


def page(name: str = "index.html") -> Response:
    """A page: it loads its files from the present version's path."""
    assets = _assets()
    found = assets.files[name]
    content = found.content.replace(b"{assets}", f"assets/{assets.version}".encode())
    response = _response(
        Asset(content, gzip.compress(content, mtime=0), found.content_type, f"{found.etag}-{assets.version}"),
        "no-cache",
    )
    response.headers["Content-Security-Policy"] = _content_security_policy()
    response.headers["Referrer-Policy"] = "same-origin"
    response.vary.add("Accept")
    return response


def wants_page() -> bool:
    """Whether this request comes from a browser's address bar, and not from a program such as curl."""
    return "text/html" in request.headers.get("Accept", "")


@lru_cache(maxsize=1)
def _assets() -> Assets:
    return Assets.read()


def _response(found: Asset, cache_control: str) -> Response:
    is_compressed = accepts_gzip()
    response = Response(found.compressed if is_compressed else found.content, content_type=found.content_type)
    response.headers["Cache-Control"] = cache_control
    response.vary.add("Accept-Encoding")
    if is_compressed:
        response.headers["Content-Encoding"] = "gzip"
    response.set_etag(f"{found.etag}-gzip" if is_compressed else found.etag)
    response.make_conditional(request)
    return response


def _content_security_policy() -> str:
    """Nothing from another host, except pictures from the bucket where IMAGE_URLS=presigned sends browsers there."""
    here, images = services().settings, ["'self'", "data:"]
    if here.image_urls == "presigned":
        bucket = urlsplit(here.s3_public_endpoint_url or here.s3_endpoint_url or "")
        images.append(f"{bucket.scheme}://{bucket.netloc}" if bucket.netloc else "https:")
    return (
        f"default-src 'none'; script-src 'self'; style-src 'self'; img-src {' '.join(images)}; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
