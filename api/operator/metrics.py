"""`/metrics` for Prometheus: what the deployment did, read from Postgres, and what this API process does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence

import psycopg
from flask import Blueprint, Flask, Response, current_app, g, request
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from psycopg_pool import PoolTimeout

from api.auth import needs
from api.docs.operation import documented
from api.services import Services
from storage.access.scopes import Scope
from storage.operator.totals import BATCH_BOUNDS, SECONDS_BOUNDS, Totals, read_totals
from storage.workers.warm import WorkerBounds, read_bounds

blueprint = Blueprint("metrics", __name__)

KEY = "darkroom-metrics"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
# Postgres is read at most this often, however many scrapers there are and however often they scrape.
READ_EVERY_S = 5.0
TERMINAL = ("succeeded", "failed", "canceled")
# Clients must not choose the values of a label: each value becomes a time series.
METHODS = frozenset(("DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"))
OTHER = "other"
# Of models that are not in the catalog (any more). Requests can name only those that are.
MAX_FORMER_MODELS = 100


class Metrics:
    """The metrics of one app."""

    def __init__(self, services: Services) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(DeploymentCollector(services))
        self.requests = Counter(
            "darkroom_http_requests", "Requests answered", ("method", "route", "status"), registry=self.registry
        )
        self.request_seconds = Histogram(
            "darkroom_http_request_seconds",
            "Until the answer began; `Prefer: wait` included",
            ("route",),
            registry=self.registry,
        )
        self.bucket_errors = Counter(
            "darkroom_s3_errors", "Requests that failed since the bucket did", registry=self.registry
        )


def register(app: Flask, services: Services) -> None:
    """Count every request of the app from now on."""
    metrics = Metrics(services)
    app.extensions[KEY] = metrics

    @app.before_request
    def start_clock() -> None:
        g.began_at = time.monotonic()

    @app.after_request
    def count(response: Response) -> Response:
        # The rule, not the path: an id in a label would make a series of every prediction.
        route = request.url_rule.rule if request.url_rule else "none"
        method = request.method if request.method in METHODS else OTHER
        metrics.requests.labels(method, route, str(response.status_code)).inc()
        if (began_at := g.get("began_at")) is not None:
            metrics.request_seconds.labels(route).observe(time.monotonic() - began_at)
        if g.get("bucket_failed"):
            metrics.bucket_errors.inc()
        return response


@blueprint.get("/metrics")
@documented("For Prometheus", {200: None}, section="Operation", media="text/plain")
@needs(Scope.METRICS)
def get() -> Response:
    metrics: Metrics = current_app.extensions[KEY]
    return Response(generate_latest(metrics.registry), content_type=CONTENT_TYPE)


class DeploymentCollector(Collector):
    """Reads Postgres at most every few seconds; without Postgres it says so, and no old numbers."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._totals: Totals | None = None
        self._bounds: dict[str, WorkerBounds] = {}

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            if time.monotonic() - self._read_at > READ_EVERY_S:
                self._totals = self._read()
                self._read_at = time.monotonic()
            totals = self._totals
        here = self._services
        yield GaugeMetricFamily("darkroom_database_up", "Whether Postgres answered", int(totals is not None))
        yield GaugeMetricFamily(
            "darkroom_listener_up", "Whether this API process hears events", int(here.events.is_listening)
        )
        yield GaugeMetricFamily("darkroom_api_streams_open", "Streams of this API process", here.streaming.taken)
        yield GaugeMetricFamily(
            "darkroom_api_waits_open", "Requests of this API process that wait for their picture", here.waiting.taken
        )
        if totals is not None:
            shown = _shown_models(here.catalog.models, totals)
            yield from _of_queues(totals, shown)
            yield from _of_bounds(self._bounds)
            yield from _of_models(totals, shown)
            yield from _of_webhooks(totals)
            yield GaugeMetricFamily(
                "darkroom_objects_missing", "Images and thumbnails that the bucket has lost", totals.objects_missing
            )

    def describe(self) -> Iterator[Metric]:
        """Yields nothing, so that registering the collector doesn't query Postgres."""
        return iter(())

    def _read(self) -> Totals | None:
        try:
            with self._services.pool.connection(timeout=2) as conn:
                self._bounds = read_bounds(conn, self._services.catalog.models.values())
                return read_totals(conn)
        except (psycopg.Error, PoolTimeout):
            return None


def _shown_models(catalog: Iterable[str], totals: Totals) -> list[str]:
    """All models of the catalog, and so many others that Postgres knows of."""
    served = set(catalog)
    known = {row["model"] for rows in (totals.models, totals.queues, totals.workers) for row in rows}
    return sorted(served) + sorted(known - served)[:MAX_FORMER_MODELS]


def _of_queues(totals: Totals, models: Sequence[str]) -> Iterator[Metric]:
    waiting = GaugeMetricFamily("darkroom_queue_depth", "Predictions that wait", labels=["model"])
    oldest = GaugeMetricFamily("darkroom_queue_oldest_seconds", "How long the oldest has waited", labels=["model"])
    drawing = GaugeMetricFamily("darkroom_predictions_processing", "Predictions being drawn", labels=["model"])
    by_model = {row["model"]: row for row in totals.queues}
    for model in models:
        row = by_model.get(model, {})
        waiting.add_metric([model], row.get("waiting", 0))
        oldest.add_metric([model], row.get("oldest_s", 0.0))
        drawing.add_metric([model], row.get("processing", 0))
    yield from (waiting, oldest, drawing)
    workers = GaugeMetricFamily("darkroom_workers", "Worker processes", labels=["model", "state"])
    for row in totals.workers:
        if row["model"] not in models:
            continue
        workers.add_metric([row["model"], row["state"]], row["n"])
    yield workers


def _of_bounds(bounds: Mapping[str, WorkerBounds]) -> Iterator[Metric]:
    at_least = GaugeMetricFamily("darkroom_workers_at_least", "Workers that are to stay ready", labels=["model"])
    at_most = GaugeMetricFamily("darkroom_workers_at_most", "The most workers that may run", labels=["model"])
    for model, bound in sorted(bounds.items()):
        at_least.add_metric([model], bound.at_least)
        at_most.add_metric([model], bound.at_most)
    yield from (at_least, at_most)


def _of_models(totals: Totals, models: Sequence[str]) -> Iterator[Metric]:
    ended = CounterMetricFamily("darkroom_predictions", "Predictions that ended", labels=["model", "status"])
    expiries = CounterMetricFamily(
        "darkroom_lease_expiries", "Predictions taken back from a worker that was gone", labels=["model"]
    )
    pickup = HistogramMetricFamily("darkroom_pickup_seconds", "From submit to the first claim", labels=["model"])
    drawing = HistogramMetricFamily("darkroom_drawing_seconds", "From the claim to the result", labels=["model"])
    batches = HistogramMetricFamily("darkroom_batch_size", "Images drawn together", labels=["model"])
    for row in totals.models:
        model = row["model"]
        if model not in models:
            continue
        for status in TERMINAL:
            ended.add_metric([model, status], row[status])
        expiries.add_metric([model], row["lease_expiries"])
        pickup.add_metric([model], _cumulative(SECONDS_BOUNDS, row["pickup_buckets"]), row["pickup_seconds"])
        drawing.add_metric([model], _cumulative(SECONDS_BOUNDS, row["drawing_buckets"]), row["drawing_seconds"])
        batches.add_metric([model], _cumulative(BATCH_BOUNDS, row["batch_buckets"]), row["batch_sizes"])
    yield from (ended, expiries, pickup, drawing, batches)
    starts = HistogramMetricFamily(
        "darkroom_cold_start_seconds", "Phases of workers' starts, up to the first picture", labels=["model", "phase"]
    )
    for row in totals.cold_starts:
        if row["model"] in models:
            labels = [row["model"], row["phase"]]
            starts.add_metric(labels, _cumulative(SECONDS_BOUNDS, row["buckets"]), row["seconds"])
    yield starts


def _of_webhooks(totals: Totals) -> Iterator[Metric]:
    attempts = CounterMetricFamily("darkroom_webhook_attempts", "Webhook attempts", labels=["outcome"])
    for outcome in ("delivered", "retried", "failed"):
        attempts.add_metric([outcome], totals.webhook_attempts.get(outcome, 0))
    yield attempts
    yield GaugeMetricFamily("darkroom_webhooks_pending", "Deliveries not yet made", totals.webhooks_pending)
    yield GaugeMetricFamily(
        "darkroom_webhooks_overdue_seconds", "How long the oldest has been due", totals.webhooks_overdue_s
    )


def _cumulative(bounds: Sequence[float], buckets: Sequence[int]) -> list[tuple[str, float]]:
    """Prometheus wants each bucket to hold all that is at most its bound."""
    names = [*(str(bound) for bound in bounds), "+Inf"]
    total, pairs = 0, []
    for name, count in zip(names, buckets, strict=True):
        total += count
        pairs.append((name, float(total)))
    return pairs
