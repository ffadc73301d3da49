"""CORS: off, unless origins are named. A web page of another origin may then call the API with its own token."""

from __future__ import annotations

from flask import Flask, Response, request

from storage.errors import OperatorError

METHODS = "GET, POST, OPTIONS"
HEADERS = (
    "Authorization, Content-Type, Prefer, Cancel-After, Idempotency-Key, Last-Event-ID, X-Request-ID, X-Darkroom-Strict"
)
EXPOSED = "Retry-After, X-Request-ID, Preference-Applied, ETag, Content-Range, Accept-Ranges"
MAX_AGE_S = 3600


def register(app: Flask, origins_text: str) -> None:
    """Answer for these origins, comma-separated; `*` is any. Raises OperatorError for what is no origin."""
    origins = frozenset(filter(None, (origin.strip().rstrip("/") for origin in origins_text.split(","))))
    if not origins:
        return
    for origin in origins - {"*"}:
        if not origin.startswith(("http://", "https://")) or origin.count("/") != 2:
            raise OperatorError(f"CORS_ORIGINS: {origin!r} is no origin such as https://app.example.com.")

    @app.after_request
    def allow(response: Response) -> Response:
        origin = request.headers.get("Origin")
        response.vary.add("Origin")
        if origin is None or not ("*" in origins or origin in origins):
            return response
        # Never with credentials: tokens travel in a header, which a page has to know, not in a cookie.
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Expose-Headers"] = EXPOSED
        if request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers:
            response.headers["Access-Control-Allow-Methods"] = METHODS
            response.headers["Access-Control-Allow-Headers"] = HEADERS
            response.headers["Access-Control-Max-Age"] = str(MAX_AGE_S)
        return response
