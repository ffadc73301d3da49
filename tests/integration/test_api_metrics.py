"""`/metrics`: what was counted, by whichever process, and what is waiting now."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from api.operator import metrics
from api.settings import ApiSettings
from storage.operator.totals import BATCH_BOUNDS, SECONDS_BOUNDS
from storage.postgres.database import Connection, connect
from storage.predictions.claim import hand_back
from storage.predictions.finish import Canceled, Failed, finish
from storage.predictions.render import Renderer
from storage.predictions.rescue import rescue_once
from tests.support.api_app import MODEL, post, problem, serving
from tests.support.making import claim_one, expire_lease, submit_one, succeeded


@pytest.fixture(autouse=True)
def _read_every_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "READ_EVERY_S", -1.0)


def read(client: FlaskClient) -> dict[tuple[str, ...], float]:
    """Every sample by its name and the values of its labels."""
    text = client.get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_waits_and_what_is_drawn_is_seen_by_model(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    for _ in range(3):
        submit_one(conn)
    conn.execute("UPDATE predictions SET created_at = created_at - interval '100 s'")
    assert claim_one(conn, renderer)
    seen = read(client)
    assert seen["darkroom_queue_depth", MODEL] == 2
    assert 100 <= seen["darkroom_queue_oldest_seconds", MODEL] < 160
    assert seen["darkroom_predictions_processing", MODEL] == 1
    assert seen["darkroom_queue_depth", "darkroom/other"] == 0
    assert seen["darkroom_pickup_seconds_count", MODEL] == 1
    assert seen["darkroom_pickup_seconds_sum", MODEL] >= 100
    assert seen["darkroom_pickup_seconds_bucket", "60.0", MODEL] == 0
    assert seen["darkroom_pickup_seconds_bucket", "300.0", MODEL] == 1


def test_every_end_is_counted_once_and_stays_when_predictions_are_pruned(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    for outcome in ("succeeded", "failed", "canceled", "succeeded"):
        made = submit_one(conn)
        if outcome == "canceled":
            finish(conn, renderer, made["id"], Canceled())
            continue
        claimed = claim_one(conn, renderer)
        assert claimed is not None
        result = succeeded(claimed) if outcome == "succeeded" else Failed("no")
        if outcome == "succeeded":
            result.metrics["batch_size"] = 4
        finish(conn, renderer, claimed.prediction_id, result, claim_id=claimed.claim_id)
        assert finish(conn, renderer, claimed.prediction_id, result, claim_id=claimed.claim_id) is None
    conn.execute("DELETE FROM predictions")
    seen = read(client)
    assert seen["darkroom_predictions_total", MODEL, "succeeded"] == 2
    assert seen["darkroom_predictions_total", MODEL, "failed"] == 1
    assert seen["darkroom_predictions_total", MODEL, "canceled"] == 1
    assert seen["darkroom_drawing_seconds_count", MODEL] == 2
    assert seen["darkroom_batch_size_bucket", "2.0", MODEL] == 0
    assert seen["darkroom_batch_size_bucket", "4.0", MODEL] == 2
    assert seen["darkroom_batch_size_sum", MODEL] == 8


def test_a_lease_that_expired_is_counted_and_one_handed_back_is_not(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    hand_back(conn, renderer, claimed.prediction_id, claimed.claim_id)
    assert claim_one(conn, renderer) is not None
    expire_lease(conn, claimed.prediction_id)
    rescue_once(conn, renderer, expire=True)
    seen = read(client)
    assert seen["darkroom_lease_expiries_total", MODEL] == 1
    assert seen["darkroom_pickup_seconds_count", MODEL] == 1  # the first claim alone


def test_a_transaction_that_hangs_in_the_middle_holds_up_no_other_of_its_model(
    settings: ApiSettings, conn: Connection, renderer: Renderer
) -> None:
    first, second = submit_one(conn), submit_one(conn)
    with connect(settings.database_url, application_name="test") as stopped, stopped.transaction():
        finish(stopped, renderer, first["id"], Canceled())
        conn.execute("SET statement_timeout = '5s'")
        assert finish(conn, renderer, second["id"], Canceled()) is not None


def test_webhook_attempts_are_counted_by_outcome(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    for _ in range(3):
        finish(conn, renderer, submit_one(conn)["id"], Canceled())
    ids = [row["id"] for row in conn.execute("SELECT id FROM webhook_deliveries ORDER BY id")]
    change = "UPDATE webhook_deliveries SET attempts = attempts + 1, status = %s WHERE id = %s"
    conn.execute(change, ("delivered", ids[0]))
    conn.execute(change, ("pending", ids[1]))
    conn.execute(change, ("failed", ids[1]))
    seen = read(client)
    assert seen["darkroom_webhook_attempts_total", "delivered"] == 1
    assert seen["darkroom_webhook_attempts_total", "retried"] == 1
    assert seen["darkroom_webhook_attempts_total", "failed"] == 1
    assert seen["darkroom_webhooks_pending",] == 1


def test_requests_are_counted_by_rule_and_not_by_path(client: FlaskClient) -> None:
    post(client)
    for name in ("a", "b"):
        client.get(f"/v1/predictions/{name}")
    seen = read(client)
    assert seen["darkroom_http_requests_total", "POST", "/v1/predictions", "201"] == 1
    assert seen["darkroom_http_requests_total", "GET", "/v1/predictions/<prediction_id>", "404"] == 2


def test_without_postgres_the_metrics_say_so(app: Flask, conn: Connection) -> None:
    conn.execute("ALTER TABLE model_totals RENAME TO moved")
    seen = read(app.test_client())
    assert seen["darkroom_database_up",] == 0
    assert ("darkroom_queue_depth", MODEL) not in seen


def test_a_bucket_that_fails_requests_is_counted(
    api_settings: ApiSettings, conn: Connection, renderer: Renderer
) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    row = finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
    assert row is not None
    with serving(api_settings.model_copy(update={"s3_endpoint_url": "http://127.0.0.1:9"})) as app:
        client = app.test_client()
        url = client.get(f"/v1/predictions/{row['id']}").get_json()["output"][0]
        answer = client.get(url.removeprefix("http://127.0.0.1:8000"))
        problem(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0
        assert read(client)["darkroom_s3_errors_total",] == 1


def test_what_a_client_chooses_makes_no_series(client: FlaskClient) -> None:
    def ask(start: int) -> int:
        for number in range(start, start + 1000):
            odd = f"X{number}"
            client.open(
                f"/v1/predictions/{odd}" if number % 2 else f"/{odd}/{odd}",
                method=odd if number % 3 else "GET",
                headers={odd: odd, "User-Agent": odd, "X-Request-ID": odd, "Origin": f"https://{odd}.example"},
                query_string={odd: odd},
            )
        return len(client.get("/metrics").text.splitlines())

    read(client)  # the series of /metrics itself
    after_1000, after_2000 = ask(0), ask(1000)
    assert after_1000 == after_2000
    seen = read(client)
    assert {key[1] for key in seen if key[0] == "darkroom_http_requests_total"} <= {*metrics.METHODS, metrics.OTHER}
    assert not any("X1" in value for key in seen for value in key)


def test_models_that_are_gone_are_told_up_to_a_bound(client: FlaskClient, conn: Connection) -> None:
    seconds, batches = len(SECONDS_BOUNDS) + 1, len(BATCH_BOUNDS) + 1
    conn.execute(
        "INSERT INTO model_totals (model, pickup_buckets, drawing_buckets, batch_buckets)"
        " SELECT 'gone/model-' || n, array_fill(9, ARRAY[%s]), array_fill(9, ARRAY[%s]), array_fill(9, ARRAY[%s])"
        " FROM generate_series(1, 5000) AS n",
        (seconds, seconds, batches),
    )
    conn.execute(
        "INSERT INTO workers (id, hostname, pid, model, state) SELECT gen_random_uuid(), 'h', n, 'odd/' || n, 'idle'"
        " FROM generate_series(1, 500) AS n"
    )
    post(client)
    text = client.get("/metrics").text
    assert len(text) < 1_500_000
    seen = read(client)
    models = {key[1] for key in seen if key[0] in ("darkroom_queue_depth", "darkroom_predictions_total")}
    assert MODEL in models
    assert len(models) == metrics.MAX_FORMER_MODELS + 2
    assert seen["darkroom_queue_depth", MODEL] == 1
