"""`POST /v1/images/generations` where its deadline passes."""

from __future__ import annotations

import json
import threading
import time

import pytest
from flask.testing import FlaskClient

from storage.postgres.database import Connection
from storage.predictions.render import Wire
from storage.predictions.rescue import rescue_once
from tests.api_app import MODEL

HEARD = "The model is broken: x.\n"


@pytest.mark.parametrize("stream", [False, True])
def test_a_picture_that_comes_too_late_is_504_with_what_was_heard_last(
    client: FlaskClient, conn: Connection, wire: Wire, stream: bool
) -> None:
    def let_deadline_pass() -> None:
        passed = 0
        while not passed:
            conn.execute("UPDATE predictions SET deadline_at = clock_timestamp(), logs = logs || %s", (HEARD,))
            passed = rescue_once(conn, wire, expire=True).passed_deadlines
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
