"""Traces: from a client's request through the queue and the drawing to the webhook. Off unless an endpoint is set.

A trace is carried by its `traceparent` (W3C Trace Context): in the request's header, in the prediction's row, and in
the webhook's header. OpenTelemetry is imported only when the first span begins.
"""

from __future__ import annotations

import importlib.util
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from storage.errors import OperatorError
from storage.settings import Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span as OtelSpan
    from opentelemetry.trace import Tracer

Kind = Literal["internal", "server", "client", "consumer"]
Attributes = Mapping[str, str | int | float | bool]

HEADER = "traceparent"
# A collector that is away must not hold anybody up: exports run on a thread of their own, and are given up after this.
EXPORT_TIMEOUT_S = 5
FLUSH_AT_END_S = 2.0


@dataclass
class Span:
    """A span that was begun. Without tracing it has no `traceparent`, and does nothing."""

    traceparent: str | None = None
    _span: OtelSpan | None = None

    def end(
        self, attributes: Attributes | None = None, *, error: str | None = None, ended_at: float | None = None
    ) -> None:
        """`ended_at`: seconds since the epoch; default: now. `error`: why it failed, without secrets."""
        if self._span is None:
            return
        from opentelemetry.trace import StatusCode

        self._span.set_attributes(dict(attributes or {}))
        if error is not None:
            self._span.set_status(StatusCode.ERROR, error)
        self._span.end(None if ended_at is None else _ns(ended_at))


class _Tracing:
    """What this process sends its spans with."""

    def __init__(self, endpoint: str, role: str) -> None:
        self.endpoint = endpoint
        self.role = role
        self._lock = threading.Lock()
        self._provider: TracerProvider | None = None

    def tracer(self) -> Tracer:
        with self._lock:  # in the process that serves: threads don't survive a fork
            if self._provider is None:
                self._provider = self._open()
            return self._provider.get_tracer("darkroom")

    def _open(self) -> TracerProvider:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import SERVICE_NAME, OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        resource = Resource.create({SERVICE_NAME: f"darkroom-{self.role}"}).merge(OTELResourceDetector().detect())
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        exporter = OTLPSpanExporter(endpoint=f"{self.endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_TIMEOUT_S)
        provider.add_span_processor(BatchSpanProcessor(exporter))
        return provider

    def close(self) -> None:
        provider = self._provider
        if provider is None:
            return
        # On a thread of its own: `shutdown` waits as long as the collector does.
        closing = threading.Thread(target=provider.shutdown, name="tracing", daemon=True)
        closing.start()
        closing.join(FLUSH_AT_END_S)


_tracing: _Tracing | None = None


def start(settings: Settings, role: str) -> None:
    """Trace from now on, if OTEL_EXPORTER_OTLP_ENDPOINT is set. `role`: api, worker or courier.

    Raises OperatorError where OpenTelemetry isn't installed.
    """
    global _tracing
    check(settings)
    endpoint = settings.otel_exporter_otlp_endpoint
    _tracing = _Tracing(endpoint, role) if endpoint else None


def check(settings: Settings) -> None:
    """Raises OperatorError where traces are asked for and OpenTelemetry isn't installed."""
    if not settings.otel_exporter_otlp_endpoint:
        return
    if importlib.util.find_spec("opentelemetry.exporter.otlp.proto.http") is None:
        raise OperatorError(
            "OTEL_EXPORTER_OTLP_ENDPOINT is set, and OpenTelemetry is not installed: "
            "`pip install -c constraints.txt opentelemetry-sdk opentelemetry-exporter-otlp-proto-http`, or unset it."
        )


def stop() -> None:
    """Send what is left, for at most FLUSH_AT_END_S."""
    if _tracing is not None:
        _tracing.close()


def is_on() -> bool:
    return _tracing is not None


def begin(
    name: str,
    parent: str | None,
    *,
    kind: Kind = "internal",
    attributes: Attributes | None = None,
    began_at: float | None = None,
) -> Span:
    """A span below `parent`, which is a traceparent; a new trace if there is none, or none that can be read.

    `began_at`: seconds since the epoch; default: now. A parent that isn't sampled has no sampled children.
    """
    if _tracing is None:
        return Span()
    from opentelemetry.trace import SpanKind
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    propagator = TraceContextTextMapPropagator()
    span = _tracing.tracer().start_span(
        name,
        context=propagator.extract({} if parent is None else {HEADER: parent}),
        kind=SpanKind[kind.upper()],
        attributes=dict(attributes or {}),
        start_time=None if began_at is None else _ns(began_at),
    )
    return Span(_traceparent_of(span), span)


def record(
    name: str,
    parent: str | None,
    began_at: float,
    ended_at: float,
    *,
    attributes: Attributes | None = None,
    error: str | None = None,
) -> None:
    """A span that is over. Times are seconds since the epoch."""
    begin(name, parent, attributes=attributes, began_at=began_at).end(error=error, ended_at=max(began_at, ended_at))


def now() -> float:
    return time.time()


def _traceparent_of(span: OtelSpan) -> str:
    context = span.get_span_context()
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
