"""A tracing span for each request that changes something. Its parent is the client's span in `traceparent`."""

from __future__ import annotations

from flask import Flask, Response, g, request

from storage import tracing

TRACED = ("POST", "PUT", "PATCH", "DELETE")


def register(app: Flask) -> None:
    """Trace the requests of this app, if tracing is on."""
    if tracing.is_on():
        app.before_request(_begin)
        app.after_request(_end)


def traceparent() -> str | None:
    """The `traceparent` of this request's span, to pass on to the work that it starts. None if tracing is off."""
    span: tracing.Span | None = g.get("request_span")
    return None if span is None else span.traceparent


def _begin() -> None:
    """Names and attributes are those of OpenTelemetry's semantic conventions for HTTP servers."""
    if request.method not in TRACED:
        return
    route = "" if request.url_rule is None else request.url_rule.rule
    g.request_span = tracing.begin(
        f"{request.method} {route}".strip(),
        request.headers.get(tracing.HEADER),
        kind="server",
        attributes={"http.request.method": request.method, "http.route": route},
    )


def _end(response: Response) -> Response:
    span: tracing.Span | None = g.pop("request_span", None)
    if span is not None:
        status = response.status_code
        error = f"HTTP {status}" if status >= 500 else None
        span.end({"http.response.status_code": status}, error=error)
    return response
