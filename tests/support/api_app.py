"""The API under test, and what requests to it have in common."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import close, create_app
from api.settings import ApiSettings

CATALOG = """
[models."darkroom/blank"]
engine = "blank"
aliases = ["dall-e-3"]
defaults = { width = 64, height = 64, num_inference_steps = 4 }
limits = { multiple_of = 16, max_steps = 50, max_side = 512, max_pixels = 65536, max_prompt_chars = 100 }

[models."darkroom/other"]
engine = "blank"
version = "2"
defaults = { width = 64, height = 64, num_inference_steps = 4 }
"""
MODEL = "darkroom/blank"


@contextmanager
def serving(settings: ApiSettings) -> Iterator[Flask]:
    """`create_app`, its connections closed at the end and the logs of the process as they were."""
    handlers, level = logging.root.handlers[:], logging.root.level
    app = create_app(settings)
    try:
        yield app
    finally:
        close(app)
        logging.root.handlers[:] = handlers
        logging.root.setLevel(level)
        structlog.reset_defaults()


def post(client: FlaskClient, *, headers: dict[str, str] | None = None, **body: Any) -> TestResponse:
    """POST /v1/predictions of the blank model; `input=…` and the like replace parts of the body."""
    text = json.dumps({"model": MODEL, "input": {"prompt": "a red circle"}} | body)  # ASCII: surrogates can be sent
    return client.post("/v1/predictions", data=text, headers=headers, content_type="application/json")


def submit(client: FlaskClient, *, headers: dict[str, str] | None = None, **body: Any) -> dict[str, Any]:
    """The prediction that such a POST made."""
    answer = post(client, headers=headers, **body)
    assert answer.status_code == 201, answer.text
    return dict(answer.get_json())


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    """The problem document of an answer, which is to have that status."""
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    body = dict(answer.get_json())
    assert body["status"] == status
    assert body["title"]
    assert body["type"] == "about:blank"
    assert "Traceback" not in answer.text
    return body
