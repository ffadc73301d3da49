"""Errors as clients see them: `application/problem+json` (RFC 9457), never a traceback."""

from __future__ import annotations

from typing import Any

import psycopg
import structlog
from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from storage.predictions.quota import QuotaExceeded
from storage.predictions.render import dump
from storage.predictions.repeats.idempotency import KeyReused
from storage.s3.bucket import BucketUnavailable

log = structlog.get_logger(__name__)


class Problem(Exception):
    """An error response. `detail` says what the client can do about it."""

    def __init__(self, status: int, title: str, detail: str, *, headers: dict[str, str] | None = None, **more: Any):
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.headers = headers or {}
        self.more = more

    def response(self) -> Response:
        body = {"title": self.title, "detail": self.detail, "status": self.status, "type": "about:blank"} | self.more
        response = Response(dump(body), self.status, content_type="application/problem+json")
        response.headers.update(self.headers)
        return response


class InvalidInput(Problem):
    """The model or the API doesn't accept a value. The detail names the field, the value and the limit."""

    def __init__(self, field: str, detail: str):
        super().__init__(
            422, "Invalid input", f"{field}: {detail}", invalid_fields=[{"field": field, "description": detail}]
        )


class NotFound(Problem):
    def __init__(self, detail: str):
        super().__init__(404, "Not found", detail)


def register(app: Flask) -> None:
    """Make every error of the app a Problem."""

    @app.errorhandler(Problem)
    def answer(problem: Problem) -> Response:
        return problem.response()

    @app.errorhandler(HTTPException)
    def answer_http(error: HTTPException) -> Response:
        status = error.code or 500
        headers = {name: value for name, value in error.get_headers() if name.lower() == "allow"}
        if status == 404 and request.routing_exception is not None:
            return _no_route().response()
        problem = Problem(status, error.name, error.description or error.name, headers=headers)
        return problem.response()

    @app.errorhandler(RequestEntityTooLarge)
    def answer_too_large(error: RequestEntityTooLarge) -> Response:
        limit = request.max_content_length
        if limit is not None and request.content_length is not None and request.content_length <= limit:
            parts, size = request.max_form_parts, request.max_form_memory_size
            return Problem(413, error.name, f"the form has more than {parts} parts, or {size} bytes of text").response()
        setting = "MAX_BODY_BYTES" if limit == app.config["MAX_CONTENT_LENGTH"] else "two of MAX_INPUT_IMAGE_BYTES"
        return Problem(413, error.name, f"the body has more than {limit} bytes ({setting})").response()

    @app.errorhandler(KeyReused)
    def answer_key_reused(error: KeyReused) -> Response:
        return InvalidInput("Idempotency-Key", str(error)).response()

    @app.errorhandler(QuotaExceeded)
    def answer_quota(error: QuotaExceeded) -> Response:
        headers = {"Retry-After": str(error.retry_after_s)}
        return Problem(429, "Too many requests", str(error), headers=headers).response()

    @app.errorhandler(psycopg.OperationalError)
    def answer_postgres_away(error: psycopg.OperationalError) -> Response:
        log.warning("api.postgres_away", reason=str(error).strip().partition("\n")[0])
        if isinstance(error, psycopg.errors.DiskFull):
            return _unavailable("The database's disk is full; nothing was accepted. Try again.").response()
        return _unavailable(
            "The database can't be reached or takes no writes; nothing was accepted. Try again."
        ).response()

    @app.errorhandler(BucketUnavailable)
    def answer_bucket_away(error: BucketUnavailable) -> Response:
        log.warning("api.bucket_away", reason=str(error))
        g.setdefault("bucket_failed", True)  # the metrics count it
        return bucket_away().response()

    @app.errorhandler(Exception)
    def answer_bug(error: Exception) -> Response:
        log.exception("api.broke")
        return Problem(500, "Internal server error", "Something broke here; the log of the API says what.").response()


def _no_route() -> Problem:
    path = request.path if len(request.path) <= 80 else f"{request.path[:80]}…"
    return Problem(
        404,
        "Not found",
        f"there is no route {request.method} {path}. Darkroom draws pictures: POST /v1/predictions and POST "
        "/v1/images/generations do that, and GET /docs lists all the others",
        code="unknown_url",
    )


def bucket_away() -> Problem:
    return _unavailable("The image store is not reachable. Try again.")


def _unavailable(detail: str) -> Problem:
    return Problem(503, "Service unavailable", detail, headers={"Retry-After": "2"})
