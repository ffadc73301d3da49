"""Pictures on their way into a drawing: out of the bucket, whatever becomes of them there."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from storage.catalog import Model
from storage.postgres.database import Connection, Row
from storage.predictions.object_keys import input_key
from storage.predictions.parameters import Lora, Parameters
from storage.s3.bucket import Bucket
from storage.settings import Settings
from tests.conftest import RunningServices
from tests.integration.flaky_proxy import FlakyProxy
from tests.integration.worker_in_thread import working
from tests.support.eventually import eventually
from tests.support.making import MODEL, count, submit_one
from worker.engine.blank import colour_of
from worker.settings import WorkerSettings

PLAIN = Parameters(prompt="a red circle", width=64, height=64, num_inference_steps=2, guidance_scale=0.0, seed=7)
ABSENT = "0" * 64
BLANK = Model(name=MODEL, engine="blank")


@pytest.fixture
def worker_settings(services: RunningServices, database: str) -> WorkerSettings:
    given = services.settings_for(database).model_dump(exclude_unset=True)
    return WorkerSettings(**given, grace_seconds=10, poll_seconds=0.2)


def store(bucket: Bucket, settings: Settings, picture: Image.Image) -> str:
    """Put a picture where the API puts it; returns its hash."""
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    bucket.put(input_key(settings.s3_prefix, sha256), buffer.getvalue(), "image/png")
    return sha256


def row_of(conn: Connection, prediction_id: str) -> Row:
    row = conn.execute("SELECT * FROM predictions WHERE id = %s", (prediction_id,)).fetchone()
    assert row is not None
    return row


def is_over(conn: Connection, prediction_id: str) -> bool:
    return count(conn, "predictions", f"id = '{prediction_id}' AND status IN ('succeeded', 'failed')") == 1


def drawn(conn: Connection, bucket: Bucket, prediction_id: str) -> np.ndarray[Any, Any]:
    found = conn.execute("SELECT object_key FROM images WHERE prediction_id = %s", (prediction_id,)).fetchone()
    assert found is not None
    return np.asarray(Image.open(io.BytesIO(bucket.read(found["object_key"]))))


def test_the_engine_is_given_the_stored_pictures_cut_to_the_size_drawn(
    worker_settings: WorkerSettings, conn: Connection, bucket: Bucket
) -> None:
    wide = Image.new("RGB", (200, 100), (10, 200, 30))
    left = Image.new("L", (200, 100), 0)
    left.paste(255, (0, 0, 100, 100))
    image, mask = store(bucket, worker_settings, wide), store(bucket, worker_settings, left)
    asked = replace(PLAIN, image=image, mask=mask, strength=1.0)
    prediction_id = submit_one(conn, parameters=asked.to_json(), webhook=None)["id"]
    with working(worker_settings, BLANK):
        eventually(lambda: is_over(conn, prediction_id))
    pixels = drawn(conn, bucket, prediction_id)
    assert pixels.shape == (64, 64, 3)
    assert tuple(pixels[32, 2]) == colour_of("a red circle", 7)
    assert tuple(pixels[32, 61]) == (10, 200, 30)


def test_a_picture_that_is_gone_or_changed_fails_its_prediction_and_no_other(
    worker_settings: WorkerSettings, conn: Connection, bucket: Bucket
) -> None:
    changed = store(bucket, worker_settings, Image.new("RGB", (64, 64)))
    bucket.put(input_key(worker_settings.s3_prefix, changed), b"something else", "image/png")
    kinds = [replace(PLAIN, image=ABSENT), replace(PLAIN, image=changed), PLAIN]
    gone, other, plain = (submit_one(conn, parameters=asked.to_json(), webhook=None)["id"] for asked in kinds)
    with working(worker_settings, BLANK):
        eventually(lambda: all(is_over(conn, prediction_id) for prediction_id in (gone, other, plain)))
    assert row_of(conn, gone)["error"] == "The image is no longer in the bucket. Send the request again."
    assert row_of(conn, other)["error"] == "The stored image has changed since the request. Send the request again."
    assert row_of(conn, plain)["status"] == "succeeded"


def test_a_bucket_that_is_away_is_waited_for_and_texts_are_drawn_meanwhile(
    worker_settings: WorkerSettings, conn: Connection, bucket: Bucket, services: RunningServices
) -> None:
    image = store(bucket, worker_settings, Image.new("RGB", (64, 64), (1, 2, 3)))
    with FlakyProxy(services.s3_endpoint_url) as proxy:
        settings = worker_settings.model_copy(update={"s3_endpoint_url": proxy.url})
        with working(settings, BLANK) as process:
            eventually(lambda: count(conn, "workers", "state = 'idle'") == 1)
            proxy.is_down.set()
            waiting = submit_one(conn, parameters=replace(PLAIN, image=image, strength=0.0).to_json(), webhook=None)
            text = submit_one(conn, parameters=PLAIN.to_json(), webhook=None)
            eventually(lambda: process._results._unpublished == 1)  # the text is drawn, and waits for the bucket too
            assert row_of(conn, waiting["id"])["status"] == "processing"
            assert row_of(conn, waiting["id"])["logs"] == ""
            proxy.is_down.clear()
            eventually(lambda: is_over(conn, waiting["id"]) and is_over(conn, text["id"]))
    assert tuple(drawn(conn, bucket, waiting["id"])[0, 0]) == (1, 2, 3)


def test_a_worker_that_leaves_hands_back_what_waits_for_its_pictures(
    worker_settings: WorkerSettings, conn: Connection, services: RunningServices
) -> None:
    with FlakyProxy(services.s3_endpoint_url) as proxy:
        settings = worker_settings.model_copy(update={"s3_endpoint_url": proxy.url})
        with working(settings, BLANK):
            eventually(lambda: count(conn, "workers", "state = 'idle'") == 1)
            proxy.is_down.set()
            submit_one(conn, parameters=replace(PLAIN, image=ABSENT).to_json(), webhook=None)
            eventually(lambda: count(conn, "predictions", "status = 'processing'") == 1)
    assert count(conn, "predictions", "status = 'starting' AND crashes = 0 AND claim_id IS NULL") == 1


def test_a_lora_by_url_is_brought_before_the_drawing_begins_or_fails_it(
    worker_settings: WorkerSettings, conn: Connection, tmp_path: Path
) -> None:
    settings = worker_settings.model_copy(update={"lora_folder": tmp_path, "lora_allow": "127.0.0.1"})
    elsewhere = replace(PLAIN, loras=(Lora("https://example.com/a.safetensors?key=secret"),))
    private = replace(PLAIN, loras=(Lora("https://127.0.0.1:8443/a.safetensors?key=secret"),))
    ids = [submit_one(conn, parameters=asked.to_json(), webhook=None)["id"] for asked in (elsewhere, private)]
    with working(settings, BLANK):
        eventually(lambda: all(is_over(conn, prediction_id) for prediction_id in ids))
    first, second = (row_of(conn, prediction_id)["error"] for prediction_id in ids)
    assert first == "LoRAs of example.com are not taken by this worker: see LORA_ALLOW."
    assert second.startswith("The LoRA from 127.0.0.1 can't be fetched: ")
    assert "secret" not in second
