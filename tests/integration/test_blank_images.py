"""A blank image on its way through the worker: the prediction fails, or is passed on with a note; never cached."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from PIL import Image

from storage.catalog import Blank, Model
from storage.postgres.database import Connection, Row
from storage.predictions.parameters import Parameters
from storage.predictions.render import Renderer
from storage.predictions.repeats.result_cache import cache_key_of, reuse_result
from storage.s3.bucket import Bucket
from storage.settings import Settings
from tests.support.eventually import eventually
from tests.support.making import MODEL, count, submit_one
from worker.engine import BlankImages, Drawing
from worker.engine.blank import BlankEngine
from worker.process import WorkerProcess
from worker.settings import WorkerSettings

PARAMETERS = Parameters(
    prompt="a red circle", width=64, height=64, num_inference_steps=1, guidance_scale=0.0, seed=7, num_outputs=2
)
REASON = "NSFW content detected."


class BlackeningEngine(BlankEngine):
    """Its safety checker blackens the second image of everything."""

    def decode(self, drawing: Drawing) -> Callable[[], list[Image.Image]]:
        draw = super().decode(drawing)

        def develop() -> list[Image.Image]:
            raise BlankImages({1: REASON}, draw())

        return develop


def work(settings: Settings, conn: Connection, model: Model) -> Row:
    """Have one prediction drawn by such an engine; returns its row at the end."""
    stored = PARAMETERS.to_json()
    row = submit_one(
        conn,
        parameters=stored,
        input={"prompt": "a red circle", "seed": 7},
        cache_key=cache_key_of(model.name, model.version, stored),
    )
    process = WorkerProcess(
        WorkerSettings(**settings.model_dump(exclude_unset=True)),
        model,
        idle_exit_s=0.0,
        load=lambda: BlackeningEngine(Blank()),
    )
    thread = threading.Thread(target=process.run)
    thread.start()
    thread.join(timeout=120)
    assert not thread.is_alive()
    found = conn.execute("SELECT * FROM predictions WHERE id = %s", (row["id"],)).fetchone()
    assert found is not None
    return found


def test_the_prediction_fails_with_the_reason_and_its_receiver_is_told(settings: Settings, conn: Connection) -> None:
    row = work(settings, conn, Model(name=MODEL, engine="blank"))
    assert (row["status"], row["error"]) == ("failed", f"Image 2 of 2 came out blank: {REASON}")
    assert "1/1" in row["logs"]
    assert count(conn, "images") == count(conn, "objects") == 0
    assert count(conn, "webhook_deliveries", f"body LIKE '%{REASON}%'") == 1


def test_passed_on_it_succeeds_with_a_note_and_is_never_taken_from_the_cache(
    settings: Settings, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    row = work(settings, conn, Model(name=MODEL, engine="blank", on_blank_image="pass"))
    assert row["status"] == "succeeded"
    assert row["logs"].endswith(f"Image 2 of 2 came out blank: {REASON}\n")
    assert count(conn, "images") == 2
    assert row["cache_key"] is None
    stored = PARAMETERS.to_json()
    again = submit_one(
        conn,
        parameters=stored,
        input={"prompt": "a red circle", "seed": 7},
        cache_key=cache_key_of(MODEL, "1", stored),
    )
    assert not again["drawn_before"]
    assert reuse_result(conn, renderer, bucket, again) is None


def test_other_words_than_fail_and_pass_are_refused() -> None:
    with pytest.raises(ValueError, match="'fail' or 'pass'"):
        Model.model_validate({"name": MODEL, "engine": "blank", "on_blank_image": "ignore"})


def test_a_good_image_keeps_its_place_in_the_cache(
    settings: Settings, conn: Connection, renderer: Renderer, bucket: Bucket
) -> None:
    stored = replace(PARAMETERS, num_outputs=1).to_json()
    more = {
        "parameters": stored,
        "input": {"prompt": "a red circle", "seed": 7},
        "cache_key": cache_key_of(MODEL, "1", stored),
    }
    submit_one(conn, **more)
    model = Model(name=MODEL, engine="blank")
    process = WorkerProcess(WorkerSettings(**settings.model_dump(exclude_unset=True)), model, idle_exit_s=0.0)
    thread = threading.Thread(target=process.run)
    thread.start()
    eventually(lambda: not thread.is_alive(), timeout_s=120)
    again = submit_one(conn, **more)
    assert again["drawn_before"]
    assert reuse_result(conn, renderer, bucket, again) is not None
