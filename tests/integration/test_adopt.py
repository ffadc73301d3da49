"""`darkroom tokens adopt`: what was made while the API was open becomes a token's."""

from __future__ import annotations

from datetime import timedelta

import pytest

from storage.access import adopt
from storage.access.adopt import adopt_predictions
from storage.access.sealing import IN_THE_CLEAR
from storage.access.signing_keys import active_webhook_secrets, ensure_keys, rotate_webhook_secret_of_token
from storage.access.tokens import create_token, id_of_token
from storage.postgres.database import Connection, connect
from storage.predictions.finish import finish
from storage.predictions.lists.filters import Filters
from storage.predictions.render import Renderer
from storage.predictions.retention.delete import delete_prediction
from storage.settings import Settings
from tests.integration.deliveries_of import read, write
from tests.support.making import claim_one, count, submit_one, succeeded

WEEK = timedelta(days=7)


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "BATCH", 3)


@pytest.fixture
def token_id(conn: Connection) -> int:
    ensure_keys(conn, IN_THE_CLEAR)
    create_token(conn, "app")
    return id_of_token(conn, "app")


def adopt_all(conn: Connection, token_id: int) -> list[int]:
    return list(adopt_predictions(conn, token_id, overlap=WEEK))


def test_all_that_belong_to_nobody_are_adopted_in_batches_and_others_stay(conn: Connection, token_id: int) -> None:
    for _ in range(7):
        submit_one(conn)
    submit_one(conn, token_id=token_id + 1)
    assert adopt_all(conn, token_id) == [3, 3, 1]
    assert count(conn, "predictions", f"token_id = {token_id}") == 7
    assert count(conn, "predictions", f"token_id = {token_id + 1}") == 1
    assert adopt_all(conn, token_id) == []


def test_one_that_is_being_drawn_is_finished_by_its_worker_after_it_was_adopted(
    conn: Connection, renderer: Renderer, token_id: int
) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert adopt_all(conn, token_id) == [1]
    row = finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
    assert row is not None
    assert (row["status"], row["token_id"]) == ("succeeded", token_id)
    assert count(conn, "webhook_deliveries", f"token_id = {token_id}") == 1


def test_a_row_that_somebody_else_writes_is_adopted_afterwards(
    conn: Connection, settings: Settings, token_id: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = submit_one(conn)
    submit_one(conn)
    other = connect(settings.database_url, application_name="other")
    monkeypatch.setattr("time.sleep", lambda _: other.commit())
    with other:
        other.autocommit = False
        other.execute("UPDATE predictions SET logs = 'x' WHERE id = %s", (first["id"],))
        assert adopt_all(conn, token_id) == [1, 1]


def test_pending_webhooks_are_signed_with_both_secrets_for_a_week(conn: Connection, token_id: int) -> None:
    (deployments,) = active_webhook_secrets(conn, IN_THE_CLEAR)
    (own,) = active_webhook_secrets(conn, IN_THE_CLEAR, token_id)
    delivery_id = write(conn, "http://127.0.0.1:9/hook", prediction_id=submit_one(conn)["id"])
    adopt_all(conn, token_id)
    assert read(conn, delivery_id)["token_id"] == token_id
    assert active_webhook_secrets(conn, IN_THE_CLEAR, token_id) == [own, deployments]
    assert count(conn, "tokens", "shared_secret_until BETWEEN now() + '6 days' AND now() + '8 days'") == 1
    new = rotate_webhook_secret_of_token(conn, IN_THE_CLEAR, token_id, overlap=timedelta(0))
    assert active_webhook_secrets(conn, IN_THE_CLEAR, token_id) == [new]


def test_a_key_that_the_token_has_used_stays_with_its_own_prediction(conn: Connection, token_id: int) -> None:
    free = submit_one(conn, idempotency_key="free", request_hash="x")
    submit_one(conn, idempotency_key="taken", request_hash="x")
    own = submit_one(conn, idempotency_key="taken", request_hash="y", token_id=token_id)
    assert sum(adopt_all(conn, token_id)) == 2
    keys = conn.execute("SELECT id, request_hash FROM predictions WHERE idempotency_key IS NOT NULL ORDER BY id")
    assert [(row["id"], row["request_hash"]) for row in keys] == [(free["id"], "x"), (own["id"], "y")]


def test_deleted_ones_are_left_out_and_adopted_ones_are_found_by_a_search(
    conn: Connection, renderer: Renderer, token_id: int
) -> None:
    from storage.predictions.lists.page import Page
    from storage.predictions.lists.search import search

    gone = submit_one(conn)["id"]
    assert delete_prediction(conn, renderer, gone)
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
    assert adopt_all(conn, token_id) == [1]
    found = search(conn, Filters(words="circle"), Page(limit=10), token_id=token_id)
    assert [row["id"] for row in found] == [claimed.prediction_id]
