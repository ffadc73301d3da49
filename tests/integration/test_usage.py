"""`GET /v1/usage`: the accounts stay right whatever happens to the predictions."""

from __future__ import annotations

import csv
import importlib
import io
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api import auth
from api.operator import usage as view
from api.settings import ApiSettings
from storage.access.scopes import Scope
from storage.access.tokens import create_token, id_of_token
from storage.operator.usage import record_work
from storage.postgres.database import Connection
from storage.predictions.finish import Canceled, Failed, finish
from storage.predictions.render import Renderer
from storage.predictions.retention.delete import delete_prediction
from storage.predictions.retention.expiry import expire_predictions
from tests.support.api_app import problem, serving
from tests.support.making import claim_one, count, submit_one, succeeded


@pytest.fixture(autouse=True)
def _forget_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBER_S", 0.0)


@pytest.fixture
def guarded(api_settings: ApiSettings) -> Iterator[Flask]:
    with serving(api_settings.model_copy(update={"auth": "tokens"})) as app:
        yield app


def draw(conn: Connection, renderer: Renderer, *, images: int = 1, gpu_time: float = 1.5, **more: Any) -> str:
    """A prediction that was drawn with 4 steps of each image; returns its id."""
    submit_one(conn, **{"webhook": None} | more)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    outcome = succeeded(claimed, images=images)
    outcome = replace(outcome, metrics={"batch_size": 2, "gpu_time": gpu_time, "step_count": 4 * images})
    assert finish(conn, renderer, claimed.prediction_id, outcome, claim_id=claimed.claim_id) is not None
    return claimed.prediction_id


def used(client: FlaskClient, query: str = "", headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    answer = client.get(f"/v1/usage?{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = answer.get_json()["results"]
    return results


def today() -> str:
    return datetime.now(UTC).date().isoformat()


ONE_OF_TWO_IMAGES = {
    "predictions": 1, "succeeded": 1, "failed": 0, "canceled": 0, "images": 2, "steps": 8, "gpu_seconds": 1.5,
}  # fmt: skip


def test_what_ended_is_counted_by_day_model_and_token(guarded: Flask, conn: Connection, renderer: Renderer) -> None:
    create_token(conn, "app")
    admin = {"Authorization": f"Bearer {create_token(conn, 'admin', scopes=[Scope.ADMIN])}"}
    draw(conn, renderer, images=2, token_id=id_of_token(conn, "app"))
    draw(conn, renderer, images=2)
    client = guarded.test_client()
    both = {name: 2 * value for name, value in ONE_OF_TWO_IMAGES.items()}
    assert used(client, "by=day", admin) == [{"day": today()} | both]
    assert used(client, "by=model", admin) == [{"model": "darkroom/blank"} | both]
    assert used(client, "by=token,model", admin) == [
        {"token": "app", "model": "darkroom/blank"} | ONE_OF_TWO_IMAGES,
        {"token": None, "model": "darkroom/blank"} | ONE_OF_TWO_IMAGES,
    ]


def test_a_token_sees_its_own_only(guarded: Flask, conn: Connection, renderer: Renderer) -> None:
    mine = {"Authorization": f"Bearer {create_token(conn, 'mine')}"}
    create_token(conn, "others")
    draw(conn, renderer, images=2, token_id=id_of_token(conn, "mine"))
    draw(conn, renderer, token_id=id_of_token(conn, "others"))
    draw(conn, renderer)
    assert used(guarded.test_client(), "by=token", mine) == [{"token": "mine"} | ONE_OF_TWO_IMAGES]


def test_it_stays_right_after_predictions_were_deleted_emptied_or_removed(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    ids = [draw(conn, renderer, images=2) for _ in range(3)]
    before = used(client)
    assert delete_prediction(conn, renderer, ids[0])
    conn.execute("UPDATE predictions SET completed_at = completed_at - interval '9 days' WHERE id = %s", (ids[1],))
    assert expire_predictions(conn, older_than=timedelta(days=7)) == 1
    conn.execute("DELETE FROM predictions WHERE id = %s", (ids[2],))
    assert used(client) == before
    assert before[0]["images"] == 6


def test_failed_and_canceled_ones_count_with_what_they_used(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    failed = Failed("no", metrics={"gpu_time": 0.5, "step_count": 3})
    assert finish(conn, renderer, claimed.prediction_id, failed, claim_id=claimed.claim_id)
    canceled = submit_one(conn)["id"]
    assert finish(conn, renderer, canceled, Canceled())
    record_work(conn, canceled, steps=2, gpu_seconds=0.25)  # its worker, which had begun
    record_work(conn, "unknown", steps=2, gpu_seconds=0.25)
    (row,) = used(client)
    assert row == {
        "day": today(), "predictions": 2, "succeeded": 0, "failed": 1, "canceled": 1,
        "images": 0, "steps": 5, "gpu_seconds": 0.75,
    }  # fmt: skip


def test_a_picture_from_the_cache_costs_nothing(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    outcome = replace(succeeded(claimed), metrics={"cached": True, "predict_time": 0.0})
    finish(conn, renderer, claimed.prediction_id, outcome, claim_id=claimed.claim_id)
    (row,) = used(client)
    assert (row["images"], row["steps"], row["gpu_seconds"]) == (1, 0, 0)


def test_what_a_worker_of_the_release_before_drew_is_estimated(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    submit_one(conn)  # two steps
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    outcome = replace(succeeded(claimed, images=2), metrics={"batch_size": 4})
    row = finish(conn, renderer, claimed.prediction_id, outcome, claim_id=claimed.claim_id)
    assert row is not None
    (counted,) = used(client)
    assert counted["steps"] == 4
    assert counted["gpu_seconds"] == pytest.approx(row["metrics"]["predict_time"] / 4, abs=0.001)


def test_days_are_those_of_utc_and_both_ends_count(client: FlaskClient, conn: Connection) -> None:
    for day in (1, 2, 3, 4):
        conn.execute(
            "INSERT INTO usage_totals (day, token_id, model, succeeded) VALUES (make_date(2026, 3, %s), 0, 'a/b', 1)",
            (day,),
        )
    assert [row["day"] for row in used(client, "from=2026-03-02&to=2026-03-03")] == ["2026-03-02", "2026-03-03"]
    assert used(client, "from=2026-03-02&to=2026-03-03&by=model")[0]["predictions"] == 2


@pytest.mark.parametrize("ask", ["format=csv", "header"])
def test_csv_has_the_same_rows(client: FlaskClient, conn: Connection, renderer: Renderer, ask: str) -> None:
    draw(conn, renderer, images=2)
    if ask == "header":
        answer = client.get("/v1/usage?by=day,token", headers={"Accept": "text/csv"})
    else:
        answer = client.get("/v1/usage?by=day,token&format=csv")
    assert answer.mimetype == "text/csv"
    assert answer.headers["Content-Disposition"].endswith(f'{today()}.csv"')
    (row,) = csv.DictReader(io.StringIO(answer.text))
    expected = {"day": today(), "token": ""} | {name: str(value) for name, value in ONE_OF_TWO_IMAGES.items()}
    assert row == expected


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("from=yesterday", "from"),
        ("from=20260101", "from"),
        ("to=2026-02-30", "to"),
        ("from=2026-02-02&to=2026-02-01", "from"),
        ("from=2020-01-01&to=2026-01-01", "from"),
        ("by=colour", "by"),
        ("by=", "by"),
        ("by=day,day", "by"),
        ("format=xml", "format"),
        ("since=2026-01-01", "since"),
    ],
)
def test_bad_input_is_422_and_names_the_field(shared_client: FlaskClient, query: str, field: str) -> None:
    assert problem(shared_client.get(f"/v1/usage?{query}"), 422)["invalid_fields"][0]["field"] == field


def test_too_many_rows_are_refused_and_not_cut(
    client: FlaskClient, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "MAX_ROWS", 2)
    conn.execute(
        "INSERT INTO usage_totals (day, token_id, model) SELECT current_date, 0, 'm' || n FROM generate_series(1, 3) n"
    )
    assert "fewer days" in problem(client.get("/v1/usage?by=model"), 422)["detail"]
    assert len(used(client, "by=day")) == 1


def test_the_migration_counts_what_had_ended_before(conn: Connection, renderer: Renderer) -> None:
    draw(conn, renderer, images=2)
    submit_one(conn)
    expected = conn.execute("SELECT * FROM usage_totals").fetchall()
    conn.execute("TRUNCATE usage_totals")
    conn.execute(importlib.import_module("migrations.versions.0019_usage_and_activity").FROM_BEFORE)
    assert conn.execute("SELECT * FROM usage_totals").fetchall() == expected
    assert count(conn, "usage_totals") == 1
