"""The cache of results: a repeat is answered with the images that are there, in the POST itself."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from api.app import close, create_app
from api.predictions.inputs import inputs_for
from api.schemas import PredictionRequest
from api.settings import ApiSettings
from storage.catalog import Defaults, Model
from storage.postgres.database import Connection, Row
from storage.postgres.procrastinate import queue_name_of
from storage.predictions.claim import Claim, claim
from storage.predictions.finish import StoredImage, finish
from storage.predictions.render import Renderer
from storage.predictions.repeats.result_cache import cache_key_of, reuse_result
from storage.s3.bucket import Bucket
from storage.workers.registry import register_bell_worker
from tests.support.making import count, submit_one, succeeded

CATALOG = """
[models."test/blank"]
engine = "blank"
defaults = { width = 64, height = 64, num_inference_steps = 2 }
"""
BLANK = Model(
    name="test/blank", engine="blank", defaults=Defaults(width=64, height=64, num_inference_steps=2)
)  # as the catalog above has it


@pytest.fixture
def client(settings: ApiSettings, tmp_path: Any) -> Iterator[FlaskClient]:
    catalog = tmp_path / "models.toml"
    catalog.write_text(CATALOG)
    app = create_app(settings.model_copy(update={"models": catalog}))
    yield app.test_client()
    close(app)


def ask(conn: Connection, renderer: Renderer, bucket: Bucket, **inputs: Any) -> Row:
    """What the API does with a request: submit, then look for a result."""
    given = {"prompt": "a cat"} | inputs
    parameters = inputs_for(BLANK, PredictionRequest(input=given)).parameters.to_json()
    row = submit_one(
        conn,
        model=BLANK.name,
        queue_name=BLANK.queue_name,
        webhook=None,
        input=given,
        parameters=parameters,
        cache_key=cache_key_of(BLANK.name, BLANK.version, parameters),
    )
    return reuse_result(conn, renderer, bucket, row) or row


def claim_next(conn: Connection, renderer: Renderer) -> Claim:
    claimed = claim(
        conn,
        renderer,
        queue_name=queue_name_of("test/blank"),
        worker_id=uuid4(),
        bell_worker_id=register_bell_worker(conn),
        holds_others=False,
    )
    assert claimed is not None
    return claimed


def draw(conn: Connection, renderer: Renderer, bucket: Bucket) -> None:
    claimed = claim_next(conn, renderer)
    outcome = succeeded(claimed)
    for image in outcome.images:
        assert isinstance(image, StoredImage)
        bucket.put(image.key, b"bytes", image.content_type)
    assert finish(conn, renderer, claimed.prediction_id, outcome, claim_id=claimed.claim_id) is not None


def test_an_equal_request_is_answered_in_its_post_with_the_same_object_and_so_is_its_webhook(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    body = {
        "model": "test/blank",
        "input": {"prompt": "a cat", "seed": 7},
        "webhook": "http://127.0.0.1:8089/hook",
        "webhook_events_filter": ["completed"],
    }
    first = client.post("/v1/predictions", json={"model": "test/blank", "input": {"prompt": "a cat", "seed": 7}})
    assert first.get_json()["status"] == "starting"
    draw(conn, renderer, bucket)
    hit = client.post("/v1/predictions", json=body)
    assert hit.status_code == 201, hit.text
    again = hit.get_json()
    assert (again["status"], again["metrics"]["cached"]) == ("succeeded", True)
    assert again["metrics"]["predict_time"] == 0
    assert len(again["output"]) == 1
    assert again["id"] != first.get_json()["id"]
    assert client.get(f"/v1/predictions/{again['id']}").text == hit.text
    delivery = conn.execute("SELECT body FROM webhook_deliveries").fetchone()
    assert delivery is not None
    assert delivery["body"] == hit.text
    assert count(conn, "objects") == 1
    assert count(conn, "images") == 2
    assert count(conn, "procrastinate_jobs", "task_name = 'darkroom:draw'") == 0


@pytest.mark.parametrize(
    "different", [{"seed": 8}, {"prompt": "a dog"}, {"width": 128}, {"output_format": "webp"}, {"cache": False}, {}]
)
def test_what_differs_is_drawn(conn: Connection, renderer: Renderer, bucket: Bucket, different: dict[str, Any]) -> None:
    ask(conn, renderer, bucket, seed=7)
    draw(conn, renderer, bucket)
    seed = {} if not different else {"seed": 7}  # no seed: a random one
    assert ask(conn, renderer, bucket, **(seed | different))["status"] == "starting"


def test_a_cached_answer_says_what_of_its_own_request_has_no_effect(
    client: FlaskClient, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    body = {"model": "test/blank", "input": {"prompt": "a cat", "seed": 7, "lora_scale": 0.5}}
    client.post("/v1/predictions", json=body | {"input": {"prompt": "a cat", "seed": 7}})
    draw(conn, renderer, bucket)
    again = client.post("/v1/predictions", json=body).get_json()
    assert again["logs"] == (
        "Using seed: 7\nlora_scale has no effect: there is no lora_weights\nDrawn before: these are the same images\n"
    )


def test_reuse_takes_any_seed_and_says_which(conn: Connection, renderer: Renderer, bucket: Bucket) -> None:
    ask(conn, renderer, bucket, seed=7)
    draw(conn, renderer, bucket)
    reused = ask(conn, renderer, bucket, reuse=True)
    assert reused["status"] == "succeeded"
    assert "Using seed: 7" in reused["logs"]
    assert reused["parameters"]["seed"] == 7
    assert ask(conn, renderer, bucket, reuse=True, seed=9)["status"] == "starting"  # a seed that is given counts
    assert ask(conn, renderer, bucket, seed=7)["metrics"]["cached"] is True


def test_a_removed_result_is_no_result(conn: Connection, renderer: Renderer, bucket: Bucket) -> None:
    first = ask(conn, renderer, bucket, seed=7)
    draw(conn, renderer, bucket)
    conn.execute("UPDATE predictions SET data_removed = true WHERE id = %s", (first["id"],))
    assert ask(conn, renderer, bucket, seed=7)["status"] == "starting"


def test_the_same_picture_that_came_out_meanwhile_is_found_at_the_claim_under_its_fence(
    conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    ask(conn, renderer, bucket, seed=7)
    second = ask(conn, renderer, bucket, seed=7)
    draw(conn, renderer, bucket)
    assert reuse_result(conn, renderer, bucket, second, claim_id=uuid4()) is None  # not that claim's
    assert reuse_result(conn, renderer, bucket, second) is not None
    assert count(conn, "images") == 2


def test_the_key_leaves_out_the_seed_and_previews_alone() -> None:
    key = cache_key_of("m/m", "1", {"prompt": "a", "seed": 1, "previews": True})
    assert key == cache_key_of("m/m", "1", {"prompt": "a", "seed": 2, "previews": False})
    assert key != cache_key_of("m/m", "2", {"prompt": "a"})
    assert key != cache_key_of("m/m", "1", {"prompt": "b"})


def test_a_claim_says_whether_an_equal_prediction_may_have_succeeded_meanwhile(
    conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    """Only then does the worker look for its images."""
    for inputs in ({"seed": 7}, {"seed": 7}, {"seed": 8}, {"reuse": True}):
        assert ask(conn, renderer, bucket, **inputs)["status"] == "starting"
    draw(conn, renderer, bucket)
    assert [claim_next(conn, renderer).may_be_drawn_before for _ in range(3)] == [True, False, True]
