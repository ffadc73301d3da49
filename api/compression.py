"""Compresses responses for clients that accept gzip."""

from __future__ import annotations

import gzip

from flask import Response, request


def accepts_gzip() -> bool:
    """Whether the client of the current request accepts gzip."""
    return request.accept_encodings.quality("gzip") > 0


def compressed(response: Response) -> Response:
    """The response, compressed if the client accepts it.

    Use only for responses without secrets: the length of a compressed response can reveal its content (BREACH).
    """
    response.vary.add("Accept-Encoding")
    if accepts_gzip():
        response.set_data(gzip.compress(response.get_data(), mtime=0))
        response.headers["Content-Encoding"] = "gzip"
    return response
