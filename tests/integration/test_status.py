"""`GET /v1/status`: what it says of a deployment is what happened there."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

from flask.testing import FlaskClient

from storage.access.tokens import create_token, id_of_token
from storage.operator.activity import forget_old_activity
from storage.postgres.database import Connection, connect
from storage.predictions.finish import Canceled, Failed, finish
from storage.predictions.render import Renderer
from storage.settings import Settings
from storage.webhooks.outbox import EVERYTHING_OPEN, claim_next, record_delivered, record_failed, record_retry
from storage.workers.load_failures import record_failure
from storage.workers.load_times import write_load_time
from storage.workers.registry import WorkerLoad, WorkerRow, say_alive
from tests.integration.deliveries_of import write
from tests.support.api_app import problem
from tests.support.making import MODEL, claim_one, count, submit_one, succeeded


def status(client: FlaskClient) -> dict[str, Any]:
    answer = client.get("/v1/status")
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.get_json()
    return body


def of_model(client: FlaskClient, name: str = MODEL) -> dict[str, Any]:
    (found,) = [each for each in status(client)["models"] if each["model"] == name]
    return dict(found)


def test_a_deployment_in_which_nothing_has_happened_is_described_too(client: FlaskClient) -> None:
    found = status(client)
    assert [each["model"] for each in found["models"]] == ["darkroom/blank", "darkroom/other"]
    blank = found["models"][0]
    assert blank["queue"] == {"waiting": 0, "processing": 0, "oldest_wait_s": 0.0}
    assert blank["last_day"]["drawing_s"] == {"p50": None, "p95": None}
    assert (len(blank["hour"]["succeeded"]), len(blank["day"]["succeeded"])) == (60, 96)
    assert (found["workers"], found["failures"], found["webhooks"]["failing"]) == ([], [], [])
    assert found["system"]["database_bytes"] > 1e6
    assert (found["system"]["bucket"], found["system"]["couriers"]) == ("ok", 0)
    problem(client.get("/v1/status?model=x"), 422)


def test_queues_and_ends_are_counted_for_each_model(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    conn.execute("UPDATE predictions SET created_at = created_at - interval '90 s'")
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    conn.execute("UPDATE predictions SET started_at = started_at - interval '10 s'")
    finish(conn, renderer, claimed.prediction_id, succeeded(claimed, images=3), claim_id=claimed.claim_id)
    finish(conn, renderer, submit_one(conn)["id"], Canceled())
    submit_one(conn)
    conn.execute("UPDATE predictions SET created_at = created_at - interval '30 s' WHERE status = 'starting'")
    found = of_model(client)
    assert (found["queue"]["waiting"], found["queue"]["processing"]) == (1, 0)
    assert found["queue"]["oldest_wait_s"] >= 30
    for period, series in (("last_hour", "hour"), ("last_day", "day")):
        ended = found[period]
        assert (ended["succeeded"], ended["canceled"], ended["failed"], ended["images"]) == (1, 1, 0, 3)
        assert 60 < ended["queue_s"]["p50"] < 110
        assert 7 < ended["drawing_s"]["p95"] < 14
        assert sum(found[series]["images"]) == 3
        assert found[series]["images"][-1] + found[series]["images"][-2] == 3  # now, or a moment ago
    assert of_model(client, "darkroom/other")["last_day"]["succeeded"] == 0


def test_a_model_that_left_the_catalog_is_shown_while_something_is_known_of_it(
    client: FlaskClient, conn: Connection
) -> None:
    submit_one(conn, model="darkroom/former", queue_name="former")
    assert of_model(client, "darkroom/former")["in_catalog"] is False


def test_workers_say_what_they_do_and_why_one_could_not_start(client: FlaskClient, conn: Connection) -> None:
    drawing, failed = uuid4(), uuid4()
    row = WorkerRow(drawing, "gpu-1", 7, MODEL, "drawing", device="NVIDIA H100")
    say_alive(conn, row, WorkerLoad(images=3, memory_bytes=5_000, device_free_bytes=7_000))
    write_load_time(conn, drawing, device="NVIDIA H100", version="1", since_start_s=9.0, joins_midway=True)
    say_alive(conn, WorkerRow(failed, "gpu-2", 8, "darkroom/other", "failed", error="no weights in /models"))
    record_failure(conn, "darkroom/other", failed, "no weights")
    found = status(client)
    first, second = found["workers"]
    assert {
        "device": "NVIDIA H100",
        "images": 3,
        "memory_bytes": 5_000,
        "device_free_bytes": 7_000,
    }.items() <= first.items()
    assert (second["state"], second["error"], second["seen_s"] < 60) == ("failed", "no weights in /models", True)
    other = of_model(client, "darkroom/other")["load_failures"]
    assert (other["tries"], other["reason"]) == (1, "no weights")
    assert of_model(client)["load_failures"] is None
    assert of_model(client)["last_hour"]["load_s"]["p50"] is not None


def test_failures_are_sorted_by_their_reasons(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    for reason in ("too large", "no luck", "too large"):
        latest = submit_one(conn)["id"]
        finish(conn, renderer, latest, Failed(reason))
    found = status(client)["failures"]
    assert [(each["reason"], each["count"]) for each in found] == [("too large", 2), ("no luck", 1)]
    assert found[0]["prediction_id"] == latest


def test_webhook_attempts_are_counted_and_what_failed_is_listed_with_its_token(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    def attempt(prediction_id: str) -> tuple[str, Any]:
        delivery_id = write(conn, "http://127.0.0.1:9/hook", prediction_id=prediction_id)
        claimed = claim_next(conn, EVERYTHING_OPEN, lock_for=timedelta(minutes=1))
        assert claimed is not None
        return delivery_id, claimed

    create_token(conn, "first")
    owned = submit_one(conn, token_id=id_of_token(conn, "first"), webhook=None)["id"]
    _, claimed = attempt(submit_one(conn, webhook=None)["id"])
    assert record_delivered(conn, claimed, status=200)
    retried, claimed = attempt(owned)
    assert record_retry(conn, claimed, delay=timedelta(hours=1), status=503, error="it said 503")
    failed, claimed = attempt(submit_one(conn, webhook=None)["id"])
    assert record_failed(conn, claimed, status=None, error="no such host")
    conn.execute("UPDATE tokens SET revoked_at = now()")
    conn.execute("DELETE FROM webhook_secrets")
    conn.execute("DELETE FROM tokens")  # the API is open: its callers are its operators
    found = status(client)["webhooks"]
    assert found["last_hour"] == {"delivered": 1, "retried": 1, "failed": 1, "codes": {"200": 1, "503": 1, "none": 1}}
    assert found["last_hour"] == found["last_day"]
    assert [sum(found["hour"][name]) for name in ("delivered", "retried", "failed")] == [1, 1, 1]
    assert found["pending"] == 1
    assert [(each["id"], each["last_status"], each["last_error"]) for each in found["failing"]] == [
        (failed, None, "no such host"),
        (retried, 503, "it said 503"),
    ]
    assert client.post(f"/v1/webhook_deliveries/{failed}/replay").status_code == 200
    assert status(client)["webhooks"]["failing"][0]["status"] == "pending"


def test_usage_is_that_of_thirty_days(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    outcome = replace(succeeded(claimed), metrics={"gpu_time": 2.0, "step_count": 4})
    finish(conn, renderer, claimed.prediction_id, outcome, claim_id=claimed.claim_id)
    usage = status(client)["usage"]
    assert usage["by_token"][0]["gpu_seconds"] == usage["by_day"][0]["gpu_seconds"] == 2.0


def test_a_courier_is_seen_by_the_connection_of_its_rescue(client: FlaskClient, settings: Settings) -> None:
    with connect(settings.database_url, application_name="darkroom-rescue"):
        assert status(client)["system"]["couriers"] == 1


def test_old_activity_is_forgotten(conn: Connection) -> None:
    conn.execute(
        "SELECT darkroom_note_activity('m', clock_timestamp() - interval '3 hours', '{\"succeeded\": 1}'),"
        " darkroom_note_activity('m', clock_timestamp() - interval '3 days', '{\"succeeded\": 1}'),"
        " darkroom_note_activity('m', clock_timestamp(), '{\"succeeded\": 1}')"
    )
    assert forget_old_activity(conn) == 3
    assert count(conn, "activity", "span_s = 60") == 1
    assert count(conn, "activity", "span_s = 900") == 2
