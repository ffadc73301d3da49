"""CORS headers: none, unless CORS_ORIGINS names origins. Their pages may then read the API's answers."""

from __future__ import annotations

import re

from flask import Flask, Response, request

from api.browsers.origins import Origins

METHODS = "GET, HEAD, POST, DELETE, OPTIONS"
# The headers that a page may send if the browser's preflight request doesn't name any.
HEADERS = (
    "Authorization, Content-Type, Prefer, Cancel-After, Idempotency-Key, Last-Event-ID, X-Request-ID, X-Darkroom-Strict"
)
# A list of header names, separated by commas. `*` would not include Authorization.
ASKED_HEADERS = re.compile(r"[A-Za-z0-9_.-]+(\s*,\s*[A-Za-z0-9_.-]+)*", re.ASCII)
MAX_ASKED_CHARS = 2000
EXPOSED = (
    "Accept-Ranges, Allow, Content-Disposition, Content-Range, ETag, Link, Location, Preference-Applied, Retry-After,"
    " WWW-Authenticate, X-Request-ID, x-should-retry"
)
MAX_AGE_S = 3600


def register(app: Flask, origins: Origins) -> None:
    """Let pages of these origins read the API's responses."""
    if not origins:
        return

    @app.after_request
    def allow(response: Response) -> Response:
        origin = request.headers.get("Origin")
        response.vary.add("Origin")
        if origin is None or not origins.allow(origin):
            return response
        # Credentials are never allowed: the token is in a header that the page must set, not in a cookie.
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            _answer_preflight(response)
        return response


def _answer_preflight(response: Response) -> None:
    asked = request.headers.get("Access-Control-Request-Headers", "").strip()
    response.headers["Access-Control-Allow-Methods"] = METHODS
    # Clients send headers of their own, such as openai-node's x-stainless-*, and each release may add some.
    is_sound = len(asked) <= MAX_ASKED_CHARS and ASKED_HEADERS.fullmatch(asked)
    response.headers["Access-Control-Allow-Headers"] = asked if is_sound else HEADERS
    response.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
    response.vary.update(("Access-Control-Request-Headers", "Access-Control-Request-Private-Network"))
    # Chromium asks before a page of the internet may reach an address of the local network.
    if request.headers.get("Access-Control-Request-Private-Network") == "true":
        response.headers["Access-Control-Allow-Private-Network"] = "true"
