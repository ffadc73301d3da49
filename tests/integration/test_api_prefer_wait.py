"""`Prefer: wait`: answers that wait for the picture, and wishes that can't be granted."""

from __future__ import annotations

import threading
import time

import pytest
from flask.testing import FlaskClient

from storage.postgres.database import Connection
from storage.predictions.finish import finish
from storage.predictions.render import Renderer
from tests.support.api_app import MODEL, post
from tests.support.making import claim_one, succeeded


def start_drawing(conn: Connection, renderer: Renderer) -> threading.Thread:
    """A worker that finishes the first prediction that comes."""

    def draw() -> None:
        while (claimed := claim_one(conn, renderer)) is None:
            time.sleep(0.02)
        finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)

    worker = threading.Thread(target=draw)
    worker.start()
    return worker


def test_prefer_wait_answers_when_another_process_has_finished_it(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    worker = start_drawing(conn, renderer)
    answer = post(client, headers={"Prefer": "wait=60"})
    worker.join()
    assert answer.status_code == 201
    assert answer.headers["Preference-Applied"] == "wait=60"
    done = answer.get_json()
    assert done["status"] == "succeeded"
    assert len(done["output"]) == 1
    assert client.get(f"/v1/predictions/{done['id']}").data == answer.data


@pytest.mark.parametrize("wish", ["wait=0", "wait=0.5", "wait=soon", 'foo="a, wait=99"', "respond-async", '"'])
def test_a_wish_that_can_not_be_granted_is_answered_at_once(client: FlaskClient, wish: str) -> None:
    answer = post(client, headers={"Prefer": wish})
    assert answer.status_code == 201
    assert "Preference-Applied" not in answer.headers


def test_a_longer_wait_is_shortened_and_the_answer_says_so(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    worker = start_drawing(conn, renderer)
    answer = client.post(
        "/v1/predictions",
        json={"model": MODEL, "input": {"prompt": "a"}},
        headers=[("Prefer", "respond-async"), ("Prefer", 'x="wait=1", wait=120')],  # two headers are one list
    )
    worker.join()
    assert answer.headers["Preference-Applied"] == "wait=60"
    assert answer.get_json()["status"] == "succeeded"


def test_prefer_wait_says_starting_where_the_time_was_up_first(
    client: FlaskClient, conn: Connection, renderer: Renderer
) -> None:
    def take() -> None:
        while claim_one(conn, renderer) is None:
            time.sleep(0.02)

    worker = threading.Thread(target=take)
    worker.start()
    answer = post(client, headers={"Prefer": "wait=2"})
    worker.join()
    assert answer.get_json()["status"] == "starting"
    assert client.get(f"/v1/predictions/{answer.get_json()['id']}").get_json()["status"] == "processing"
