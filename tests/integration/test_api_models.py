"""What the list of models says of them."""

from __future__ import annotations

from flask.testing import FlaskClient

from api.models.run_counts import RunCounts
from api.services import services
from storage.postgres.database import Connection
from storage.predictions.finish import Canceled, Failed, finish
from storage.predictions.render import Renderer
from tests.support.api_app import MODEL, submit
from tests.support.making import claim_one, succeeded


def run_counts(client: FlaskClient) -> dict[str, int]:
    with client.application.app_context():
        services().run_counts._read_at = 0.0  # as if the few seconds were over
    return {model["id"]: model["run_count"] for model in client.get("/v1/models").get_json()["results"]}


def test_the_run_count_is_of_what_was_drawn_or_failed(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    assert run_counts(client) == {MODEL: 0, "darkroom/other": 0}
    for end in ("succeeded", "failed", "canceled", "starting"):
        made = submit(client)
        if end == "canceled":
            finish(conn, renderer, made["id"], Canceled())
        elif end != "starting":
            claimed = claim_one(conn, renderer)
            assert claimed is not None
            outcome = succeeded(claimed) if end == "succeeded" else Failed("no paper")
            finish(conn, renderer, claimed.prediction_id, outcome, claim_id=claimed.claim_id)
    assert run_counts(client) == {MODEL: 2, "darkroom/other": 0}
    assert client.get(f"/v1/models/{MODEL}").get_json()["run_count"] == 2


def test_run_counts_are_remembered_for_a_few_seconds(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    with client.application.app_context():
        counts = RunCounts(services().pool)
    assert counts.now() == {}
    submit(client)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
    assert counts.now() == {}
    counts._read_at = 0.0
    assert counts.now() == {MODEL: 1}
