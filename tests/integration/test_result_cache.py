"""The cache of results: a repeat is answered with the images that are there, in the POST itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from api.app import close, create_app
from api.settings import ApiSettings
from storage.claim import claim
from storage.database import Connection
from storage.finish import finish
from storage.presence import register_bell_worker
from storage.queue import queue_name_of
from storage.result_cache import cache_key_of, reuse_result
from storage.wire import Wire
from tests.making import count, succeeded

CATALOG = """
[models."test/blank"]
engine = "blank"
defaults = { width = 64, height = 64, num_inference_steps = 2 }
"""


@pytest.fixture
def client(settings: ApiSettings, tmp_path: Any) -> Iterator[FlaskClient]:
    catalog = tmp_path / "models.toml"
    catalog.write_text(CATALOG)
    app = create_app(settings.model_copy(update={"models": catalog}))
    yield app.test_client()
    close(app)


def post(client: FlaskClient, **inputs: Any) -> dict[str, Any]:
    answer = client.post("/v1/predictions", json={"model": "test/blank", "input": {"prompt": "a cat"} | inputs})
    assert answer.status_code == 201, answer.text
    prediction: dict[str, Any] = answer.get_json()
    return prediction


def draw(conn: Connection, wire: Wire) -> None:
    claimed = claim(
        conn,
        wire,
        queue_name=queue_name_of("test/blank"),
        worker_id=uuid4(),
        bell_worker_id=register_bell_worker(conn),
        holds_others=False,
    )
    assert claimed is not None
    assert finish(conn, wire, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id) is not None


def test_an_equal_request_is_answered_at_once_with_the_same_object(
    client: FlaskClient, conn: Connection, wire: Wire
) -> None:
    first = post(client, seed=7)
    assert first["status"] == "starting"
    draw(conn, wire)
    again = post(client, seed=7)
    assert again["status"] == "succeeded"
    assert again["metrics"]["cached"] is True
    assert len(again["output"]) == 1
    assert again["id"] != first["id"]
    assert count(conn, "objects") == 1
    assert count(conn, "images") == 2
    assert count(conn, "procrastinate_jobs") == 0
    assert client.get(f"/v1/predictions/{again['id']}").get_json() == again


@pytest.mark.parametrize(
    "different", [{"seed": 8}, {"prompt": "a dog"}, {"width": 128}, {"output_format": "webp"}, {"cache": False}, {}]
)
def test_what_differs_is_drawn(client: FlaskClient, conn: Connection, wire: Wire, different: dict[str, Any]) -> None:
    post(client, seed=7)
    draw(conn, wire)
    seed = {} if not different else {"seed": 7}  # no seed: a random one
    assert post(client, **(seed | different))["status"] == "starting"


def test_reuse_takes_any_seed_and_says_which(client: FlaskClient, conn: Connection, wire: Wire) -> None:
    post(client, seed=7)
    draw(conn, wire)
    reused = post(client, reuse=True)
    assert reused["status"] == "succeeded"
    assert "Using seed: 7" in reused["logs"]
    assert post(client, reuse=True, seed=9)["status"] == "starting"  # a seed that is given counts
    assert post(client, seed=7)["metrics"]["cached"] is True


def test_a_failed_or_removed_result_is_no_result(client: FlaskClient, conn: Connection, wire: Wire) -> None:
    first = post(client, seed=7)
    draw(conn, wire)
    conn.execute("UPDATE predictions SET data_removed = true WHERE id = %s", (first["id"],))
    assert post(client, seed=7)["status"] == "starting"


def test_the_same_picture_that_came_out_meanwhile_is_found_at_the_claim_under_its_fence(
    client: FlaskClient, conn: Connection, wire: Wire
) -> None:
    post(client, seed=7)
    second = post(client, seed=7)
    draw(conn, wire)
    row = conn.execute("SELECT * FROM predictions WHERE id = %s", (second["id"],)).fetchone()
    assert row is not None
    assert reuse_result(conn, wire, row, claim_id=uuid4()) is None  # not that claim's
    assert reuse_result(conn, wire, row) is not None
    assert count(conn, "images") == 2


def test_a_webhook_is_told_of_a_cache_hit_as_of_any_other_result(
    client: FlaskClient, conn: Connection, wire: Wire, settings: ApiSettings
) -> None:
    post(client, seed=7)
    draw(conn, wire)
    body = {
        "model": "test/blank",
        "input": {"prompt": "a cat", "seed": 7},
        "webhook": "http://127.0.0.1:9/hook",
        "webhook_events_filter": ["completed"],
    }
    hit = client.post("/v1/predictions", json=body)
    assert hit.status_code == 201, hit.text
    delivery = conn.execute("SELECT body FROM webhook_deliveries").fetchone()
    assert delivery is not None
    assert delivery["body"] == hit.text


def test_the_key_leaves_out_the_seed_and_previews_alone() -> None:
    key = cache_key_of("m/m", "1", {"prompt": "a", "seed": 1, "previews": True})
    assert key == cache_key_of("m/m", "1", {"prompt": "a", "seed": 2, "previews": False})
    assert key != cache_key_of("m/m", "2", {"prompt": "a"})
    assert key != cache_key_of("m/m", "1", {"prompt": "b"})
