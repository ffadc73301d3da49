"""`/v1/status`: the state of the whole deployment, for operators. Its shape is described in docs/status.md."""

from __future__ import annotations

import math
from collections.abc import Iterable
from importlib.metadata import version
from typing import Any

from flask import Blueprint, Response

from api.auth import needs
from api.docs.operation import documented
from api.operator.usage import usage_row
from api.parsing.list_query import query
from api.services import Services, services
from storage.access.scopes import Scope
from storage.operator.activity import WEBHOOKS, Counts, Kind, Series, percentile
from storage.operator.status import DAY_POINTS, HOUR_POINTS, Status, read_status
from storage.postgres.database import Row
from storage.predictions.render import dump, timestamp
from storage.s3.bucket import BucketUnavailable
from storage.webhooks.history import show
from storage.workers.warm import NO_BOUNDS, WorkerBounds, read_bounds

blueprint = Blueprint("status", __name__)

ENDS = ("succeeded", "failed", "canceled", "images")
ATTEMPTS = ("delivered", "retried", "failed")
DURATIONS: dict[str, Kind] = {"queue": "q", "load": "l", "drawing": "d"}
SHARES = {"p50": 0.5, "p95": 0.95}
NOTHING: Counts = {}


@blueprint.get("/status")
@documented(
    "The state of the deployment",
    {200: None},
    section="Operation",
    errors=(422,),
    details="Queues, workers, durations, failures, webhooks, usage. It needs the scope `admin`.",
)
@needs(Scope.ADMIN)
def get() -> Response:
    """Everything at once: some ten statements, each of a few milliseconds."""
    query()
    here = services()
    with here.pool.connection() as conn:
        found = read_status(conn)
        bounds = read_bounds(conn, here.catalog.models.values())
    body = {
        "version": version("darkroom"),
        "models": [
            model_json(name, name in here.catalog.models, found) | {"workers": _bounds(bounds.get(name, NO_BOUNDS))}
            for name in _names(here, found)
        ],
        "workers": [_worker(row) for row in found.workers],
        "failures": [row | {"last_at": timestamp(row["last_at"])} for row in found.failures],
        "webhooks": _webhooks(found),
        "usage": {
            "from": found.usage_from.isoformat(),
            "by_token": [usage_row(row) for row in found.usage_by_token],
            "by_day": [usage_row(row) for row in found.usage_by_day],
        },
        "system": _system(here, found),
    }
    return Response(dump(body), content_type="application/json", headers={"Cache-Control": "no-store"})


def _names(here: Services, found: Status) -> list[str]:
    """The catalog's models in its order, then others that something is known of."""
    rows = (*found.queues, *found.workers, *found.load_failures)
    known = {row["model"] for row in rows} | found.day.keys() | found.hour.keys()
    return [*here.catalog.models, *sorted(known - {WEBHOOKS} - here.catalog.models.keys())]


def model_json(name: str, is_in_catalog: bool, found: Status) -> dict[str, Any]:
    """What is known of one model."""
    queue = _of(name, found.queues) or {"waiting": 0, "processing": 0, "oldest_s": 0.0}
    failed = _of(name, found.load_failures)
    hour, day = found.hour.get(name), found.day.get(name)
    return {
        "model": name,
        "in_catalog": is_in_catalog,
        "queue": {
            "waiting": queue["waiting"],
            "processing": queue["processing"],
            "oldest_wait_s": round(queue["oldest_s"], 1),
        },
        "load_failures": failed
        and {"tries": failed["tries"], "last_at": timestamp(failed["last_at"]), "reason": failed["reason"]},
        "last_hour": _summary(hour.sum() if hour else NOTHING),
        "last_day": _summary(day.sum() if day else NOTHING),
        "hour": _series(hour or _empty(found.hour[WEBHOOKS], HOUR_POINTS)),
        "day": _series(day or _empty(found.day[WEBHOOKS], DAY_POINTS)),
    }


def _bounds(bounds: WorkerBounds) -> dict[str, Any]:
    return {
        "at_least": bounds.at_least,
        "at_most": None if math.isinf(bounds.at_most) else bounds.at_most,
        "warm_until": timestamp(bounds.warm_until),
    }


def _of(model: str, rows: Iterable[Row]) -> Row | None:
    return next((row for row in rows if row["model"] == model), None)


def _empty(like: Series, points: int) -> Series:
    return Series(like.starts_at, like.step_s, [NOTHING] * points)


def _summary(counts: Counts) -> dict[str, Any]:
    durations = {
        f"{name}_s": {each: _rounded(percentile(counts, kind, share)) for each, share in SHARES.items()}
        for name, kind in DURATIONS.items()
    }
    return {name: counts.get(name, 0) for name in ENDS} | durations


def _series(series: Series) -> dict[str, Any]:
    """A list for each count, and for each percentile of each duration; null where there was none."""
    durations = {
        f"{name}_{each}_s": [_rounded(percentile(counts, kind, share)) for counts in series.points]
        for name, kind in DURATIONS.items()
        for each, share in SHARES.items()
    }
    return _times(series) | {name: [counts.get(name, 0) for counts in series.points] for name in ENDS} | durations


def _times(series: Series) -> dict[str, Any]:
    return {"starts_at": timestamp(series.starts_at), "step_s": series.step_s}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _worker(row: Row) -> dict[str, Any]:
    return {
        "id": str(row["id"]),
        "hostname": row["hostname"],
        "pid": row["pid"],
        "model": row["model"],
        "device": row["device"],
        "state": row["state"],
        "error": row["error"],
        "images": row["images"],
        "memory_bytes": row["memory_bytes"],
        "device_free_bytes": row["device_free_bytes"],
        "started_at": timestamp(row["started_at"]),
        "seen_s": round(row["seen_s"], 1),
    }


def _webhooks(found: Status) -> dict[str, Any]:
    hour, day = found.hour[WEBHOOKS], found.day[WEBHOOKS]
    return {
        "pending": found.pending_webhooks["pending"],
        "overdue_s": round(found.pending_webhooks["overdue_s"], 1),
        "last_hour": _attempts(hour.sum()),
        "last_day": _attempts(day.sum()),
        "hour": _times(hour) | {name: [counts.get(name, 0) for counts in hour.points] for name in ATTEMPTS},
        "day": _times(day) | {name: [counts.get(name, 0) for counts in day.points] for name in ATTEMPTS},
        "failing": [show(row, to_token=False) | {"token": row["token"]} for row in found.failing_deliveries],
    }


def _attempts(counts: Counts) -> dict[str, Any]:
    codes = {name.partition(" ")[2]: count for name, count in counts.items() if name.startswith("code ")}
    return {name: counts.get(name, 0) for name in ATTEMPTS} | {"codes": dict(sorted(codes.items()))}


def _system(here: Services, found: Status) -> dict[str, Any]:
    retention, stored = here.settings.retention, found.stored
    return {
        "couriers": found.couriers,
        "listener": "ok" if here.events.is_listening else "disconnected",
        "bucket": _bucket(here),
        "objects_missing": found.objects_missing,
        "objects": stored["objects"],
        "tombstones": stored["tombstones"],
        "database_bytes": stored["database_bytes"],
        "postgres_version": stored["postgres_version"],
        "predictions": stored["predictions"],
        "retention_s": None if retention is None else retention.total_seconds(),
        "oldest_data_at": timestamp(stored["oldest_data_at"]),
        "streams_open": here.streaming.taken,
        "waits_open": here.waiting.taken,
    }


def _bucket(here: Services) -> str:
    try:
        here.bucket.check()
    except BucketUnavailable:
        return "unavailable"
    return "ok"
