"""Traces of the whole service, as a collector receives them: OTLP over HTTP, read with OpenTelemetry's own classes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from storage import tracing
from storage.errors import OperatorError
from storage.postgres.database import Connection
from storage.settings import Settings
from tests.clients.guarding import inputs
from tests.conftest import RunningServices
from tests.support.receivers import Answer, Receiver
from tests.support.serving import Service, serving

TRACE = "0af7651916cd43dd8448eb211c80319c"
UNSAMPLED_TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = "b7ad6b7169203331"
PHASES = {"encode_prompt", "denoise", "decode", "fetch", "encode_image", "upload", "finish"}


class Collector:
    """What came, by service and name."""

    def __init__(self, receiver: Receiver) -> None:
        self._receiver = receiver

    def spans(self) -> list[tuple[str, Span]]:
        found = []
        for sent in list(self._receiver.requests):
            assert sent.path == "/v1/traces"
            for of_service in ExportTraceServiceRequest.FromString(sent.body).resource_spans:
                [service] = [
                    each.value.string_value for each in of_service.resource.attributes if each.key == "service.name"
                ]
                found += [(service, span) for scope in of_service.scope_spans for span in scope.spans]
        return found

    def named(self, name: str, count: int, *, trace_id: str) -> list[Span]:
        """The first spans of that name in a trace, in the order in which they began."""
        give_up_at = time.monotonic() + 60
        while (
            len(found := [span for _, span in self.spans() if span.name == name and span.trace_id.hex() == trace_id])
            < count
        ):
            assert time.monotonic() < give_up_at
            time.sleep(0.1)
        return sorted(found, key=lambda span: span.start_time_unix_nano)

    def of_trace(self, trace_id: str, is_complete: Callable[[dict[str, Span]], bool]) -> dict[str, Span]:
        """The spans of a trace by "service name", once they are complete."""
        give_up_at = time.monotonic() + 60
        while True:
            of_trace = [each for each in self.spans() if each[1].trace_id.hex() == trace_id]
            spans = {f"{service} {span.name}": span for service, span in of_trace}
            if is_complete(spans):
                return spans
            assert time.monotonic() < give_up_at, sorted(spans)
            time.sleep(0.1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as found:
        yield found


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with Receiver().serving() as found:
        yield Collector(found)


@pytest.fixture(scope="module")
def traced(
    services: RunningServices, tmp_path_factory: pytest.TempPathFactory, collector: Collector
) -> Iterator[Service]:
    """One service for all tests that take it: each looks only at its own traces."""
    endpoint = collector._receiver.url.removesuffix("/hook")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")  # ms; the default is 5 s
        folder = tmp_path_factory.mktemp("traced")
        with serving(services, folder, courier=True, otel_exporter_otlp_endpoint=endpoint) as running:
            yield running


def draw(service: Service, receiver: Receiver, *, traceparent: str | None, prompt: str | None = None) -> Any:
    headers = {"Prefer": "wait=30"} | ({} if traceparent is None else {"traceparent": traceparent})
    body = {
        "model": "darkroom/slow",
        "input": inputs() if prompt is None else {"prompt": prompt},
        "webhook": f"{receiver.url}?key=a-secret",
        "webhook_events_filter": ["completed"],
    }
    answer = requests.post(f"{service.url}/v1/predictions", json=body, headers=headers, timeout=60)
    assert answer.ok, answer.text
    return answer.json()


def attributes(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def test_one_trace_leads_from_the_clients_request_to_the_webhook(
    traced: Service, collector: Collector, receiver: Receiver
) -> None:
    receiver.answers(Answer(status=500), Answer())
    prediction = draw(traced, receiver, traceparent=f"00-{TRACE}-{CLIENT}-01", prompt="something private")
    first, second = receiver.wait_for(2)
    api, worker = "darkroom-api POST /v1/predictions", "darkroom-worker"
    spans = collector.of_trace(
        TRACE, lambda spans: "darkroom-courier webhook" in spans and f"{worker} draw" in spans and api in spans
    )
    server, drawing = spans[api], spans[f"{worker} draw"]
    assert server.parent_span_id.hex() == CLIENT
    assert server.kind == Span.SPAN_KIND_SERVER
    assert attributes(server)["http.response.status_code"] == 201
    assert drawing.parent_span_id == server.span_id
    assert spans[f"{worker} queue"].parent_span_id == server.span_id
    phases = {name.split()[1]: span for name, span in spans.items() if span.parent_span_id == drawing.span_id}
    assert set(phases) == PHASES
    for phase in phases.values():
        assert drawing.start_time_unix_nano <= phase.start_time_unix_nano <= phase.end_time_unix_nano
        assert phase.end_time_unix_nano <= drawing.end_time_unix_nano
    assert attributes(phases["denoise"])["darkroom.parts"] == 8
    assert attributes(drawing)["darkroom.prediction.id"] == prediction["id"]
    assert attributes(drawing)["darkroom.ended_as"] == "succeeded"
    # Both attempts of the delivery, and what each told its receiver.
    posts = collector.named("webhook", 2, trace_id=TRACE)
    assert [attributes(span)["http.response.status_code"] for span in posts] == [500, 200]
    assert [span.status.code for span in posts] == [Status.STATUS_CODE_ERROR, Status.STATUS_CODE_UNSET]
    for span, request in zip(posts, (first, second), strict=True):
        assert span.kind == Span.SPAN_KIND_CLIENT
        assert span.parent_span_id == server.span_id
        assert request.headers["traceparent"] == f"00-{TRACE}-{span.span_id.hex()}-01"
    # Nothing that a client might not want to be seen.
    everything = b"".join(sent.body for sent in collector._receiver.requests)
    for private in (b"something private", b"a-secret", b"signature", b"whsec"):
        assert private not in everything


def test_without_a_traceparent_or_with_a_broken_one_a_trace_begins(
    traced: Service, collector: Collector, receiver: Receiver
) -> None:
    for sent in (None, "00-nonsense-01"):
        draw(traced, receiver, traceparent=sent)
    told = [request.headers["traceparent"].split("-")[1] for request in receiver.wait_for(2)]
    assert len(set(told)) == 2
    for trace in told:
        collector.of_trace(trace, lambda spans: "darkroom-api POST /v1/predictions" in spans)


def test_what_the_client_does_not_sample_is_not_sampled(
    traced: Service, collector: Collector, receiver: Receiver
) -> None:
    draw(traced, receiver, traceparent=f"00-{UNSAMPLED_TRACE}-{CLIENT}-00")
    [request] = receiver.wait_for(1)
    assert request.headers["traceparent"].startswith(f"00-{UNSAMPLED_TRACE}-")
    assert request.headers["traceparent"].endswith("-00")
    draw(traced, receiver, traceparent=None)  # comes later
    other = receiver.wait_for(2)[1].headers["traceparent"].split("-")[1]
    collector.of_trace(other, lambda spans: "darkroom-courier webhook" in spans)
    assert UNSAMPLED_TRACE not in {span.trace_id.hex() for _, span in collector.spans()}


def test_a_collector_that_hangs_delays_nothing(
    services: RunningServices, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with Receiver().serving() as hanging:
        hanging.answers(Answer(delay_s=600))
        endpoint = hanging.url.removesuffix("/hook")
        with serving(services, tmp_path, courier=True, otel_exporter_otlp_endpoint=endpoint) as running:
            for _ in range(3):
                assert draw(running, receiver, traceparent=None)["status"] == "succeeded"
            receiver.wait_for(3)
        assert hanging.requests  # and every process has ended, though none of them got an answer


def test_without_an_endpoint_nothing_is_traced_and_opentelemetry_is_not_imported(
    services: RunningServices, tmp_path: Path, receiver: Receiver
) -> None:
    from storage.postgres.database import connect

    with serving(services, tmp_path, courier=True) as running:
        draw(running, receiver, traceparent=f"00-{TRACE}-{CLIENT}-01")
        [request] = receiver.wait_for(1)
        assert "traceparent" not in request.headers
        with connect(running.settings.database_url, application_name="test") as conn:
            assert traced_rows(conn) == 0


def traced_rows(conn: Connection) -> int:
    row = conn.execute("SELECT count(*) AS n FROM predictions WHERE traceparent IS NOT NULL").fetchone()
    assert row is not None
    n: int = row["n"]
    return n


def test_an_endpoint_without_opentelemetry_is_said_in_words(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(OperatorError, match="opentelemetry-sdk"):
        tracing.start(settings.model_copy(update={"otel_exporter_otlp_endpoint": "http://127.0.0.1:4318"}), "api")
    assert not tracing.is_on()
