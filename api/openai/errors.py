"""Errors in the shape that OpenAI's clients read, on the routes that they may ask for."""

from __future__ import annotations

import json
import re
from typing import Any

from flask import Response, request

from storage.predictions.render import dump

# Routes that only OpenAI's clients ask for, those among them that are not here.
OPENAI_ONLY = re.compile(
    r"(/v1)?/(models/[^/]+$|(images|chat|completions|responses|embeddings|audio|moderations|fine_tuning|batches|"
    r"assistants|threads|vector_stores|uploads|realtime|evals|graders|containers|conversations|videos|skills)(/|$))"
)
# A list that clients of both families ask for.
MODELS = re.compile(r"(/v1)?/models")

# What our own errors call an input, and what OpenAI does.
PARAMETERS = {
    "width": "size",
    "height": "size",
    "num_outputs": "n",
    "output_quality": "output_compression",
}


def say_errors_as_openai_does(response: Response) -> Response:
    """Give errors OpenAI's shape on its own routes, wherever they were raised.

    Where a client of either family may ask, and on paths that lead nowhere, a body has both shapes: OpenAI's clients
    read `error` alone, Replicate's read `title` and `detail`.
    """
    if response.mimetype != "application/problem+json":
        return response
    is_openais = OPENAI_ONLY.match(request.path) is not None
    if not is_openais and request.routing_exception is None and MODELS.fullmatch(request.path) is None:
        return response
    problem = json.loads(response.get_data())
    error = {"error": as_openai_error(problem)}
    if is_openais:
        if response.status_code == 422:
            response.status_code = 400
        response.set_data(dump(error))
        response.mimetype = "application/json"
    else:
        response.set_data(dump(problem | error))
    return response


def as_openai_error(problem: dict[str, Any]) -> dict[str, Any]:
    """One of our problems as OpenAI's error object."""
    status, message = problem["status"], problem["detail"]
    parameter = None
    for invalid in problem.get("invalid_fields", [])[:1]:
        field = invalid["field"].removeprefix("input.")
        parameter = PARAMETERS.get(field, field)
        message = f"{parameter}: {invalid['description']}"
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"message": message, "type": kind, "param": parameter, "code": problem.get("code")}
