"""`POST /v1/images/generations` where its deadline passes."""

from __future__ import annotations

import json
import threading
import time

import pytest
from flask.testing import FlaskClient

from storage.postgres.database import Connection
from storage.predictions.finish import finish
from storage.predictions.render import Renderer
from storage.predictions.rescue import rescue_once
from tests.support.api_app import MODEL
from tests.support.making import claim_one, succeeded

HEARD = "The model is broken: x.\n"


@pytest.mark.parametrize("stream", [False, True])
def test_a_picture_that_comes_too_late_is_504_with_what_was_heard_last(
    client: FlaskClient, conn: Connection, renderer: Renderer, stream: bool
) -> None:
    def let_deadline_pass() -> None:
        passed = 0
        while not passed:
            conn.execute("UPDATE predictions SET deadline_at = clock_timestamp(), logs = logs || %s", (HEARD,))
            passed = rescue_once(conn, renderer, expire=True).passed_deadlines
            time.sleep(0.05)

    rescue = threading.Thread(target=let_deadline_pass)
    rescue.start()
    answer = client.post("/v1/images/generations", json={"model": MODEL, "prompt": "a", "stream": stream})
    text = answer.get_data(as_text=True)
    rescue.join()
    if stream:
        error = json.loads(text.partition("data: ")[2].partition("\n")[0])["error"]
    else:
        assert answer.status_code == 504
        error = json.loads(text)["error"]
    assert error["type"] == "server_error"
    assert "OPENAI_WAIT_S" in error["message"]
    assert error["message"].endswith("its logs end with: The model is broken: x.")


@pytest.mark.parametrize("stream", [False, True])
def test_an_image_that_is_not_in_the_store_is_an_error_and_no_cut_off_answer(
    client: FlaskClient, conn: Connection, renderer: Renderer, stream: bool
) -> None:
    def finish_without_uploading() -> None:
        while (claimed := claim_one(conn, renderer)) is None:
            time.sleep(0.02)
        finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)

    worker = threading.Thread(target=finish_without_uploading)
    worker.start()
    answer = client.post("/v1/images/generations", json={"model": MODEL, "prompt": "a", "stream": stream})
    text = answer.get_data(as_text=True)
    worker.join()
    if stream:
        assert text.count("event: ") == text.count("event: error") == 1
        error = json.loads(text.partition("data: ")[2].partition("\n")[0])["error"]
    else:
        assert answer.status_code == 410
        error = json.loads(text)["error"]
    assert error["type"] == "invalid_request_error"
    assert "the image store has lost this file" in error["message"]
