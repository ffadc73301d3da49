"""Routes whose requests may carry pictures, and so have large bodies, if the caller may draw."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from flask import Flask, current_app, request

from api.services import services

MAY_CARRY_PICTURES = "darkroom_may_carry_pictures"
# Form fields that are not files, in memory.
MAX_FORM_BYTES = 256 * 1024

View = TypeVar("View", bound=Callable[..., Any])


def may_carry_pictures(view: View) -> View:
    """Mark a view that reads pictures from its body. `api.server.request.uploads` names its path too."""
    setattr(view, MAY_CARRY_PICTURES, True)
    return view


def register(app: Flask) -> None:
    """Raise the limit of the body for these views; to be called after authentication has registered."""
    app.before_request(_raise_limit)


def _raise_limit() -> None:
    view = current_app.view_functions.get(request.endpoint or "")
    if getattr(view, MAY_CARRY_PICTURES, False):
        request.max_content_length = services().settings.max_upload_bytes
        request.max_form_memory_size = MAX_FORM_BYTES
        request.max_form_parts = 64
