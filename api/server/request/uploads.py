"""Requests that may have a large body if their sender may draw: the application is asked before the body is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

# The application's answer to the header `Authorization` of such a request; it may ask Postgres.
MAY_UPLOAD = "darkroom_may_upload"
# Where `api.pictures.large_bodies` marks the views.
PATHS = re.compile(r"(/v1)?/(predictions|models/[^/]+/[^/]+/predictions|files|images/(edits|variations))")


def may_be_large(request: Any) -> bool:
    """Whether a request, of which only the head has arrived, is one that may carry pictures."""
    return request.method == "POST" and PATHS.fullmatch(request.path) is not None


def authorization_of(request: Any) -> str:
    return next((str(value) for name, value in request.headers if name == "AUTHORIZATION"), "")


def asking(application: Any) -> Callable[[str], bool]:
    """What tells whether a request with that header may have a large body; an application that doesn't say allows it
    to nobody."""
    may_upload: Callable[[str], bool] | None = getattr(application, "extensions", {}).get(MAY_UPLOAD)
    return may_upload or (lambda _: False)
