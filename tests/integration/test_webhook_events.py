"""Which events of a prediction are written, and when."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
from flask.testing import FlaskClient

from storage.postgres.database import Connection, Row
from storage.predictions.finish import Canceled, Failed, finish
from storage.predictions.quota import Quota, QuotaExceeded
from storage.predictions.render import Renderer
from storage.predictions.submit import Submission, submit
from storage.webhooks.events import EVENTS
from tests.support.api_app import post, problem
from tests.support.api_app import submit as post_one
from tests.support.making import WEBHOOK, claim_one, count, submit_one, succeeded

HOOK = "http://127.0.0.1:8089/hook"


def deliveries(conn: Connection) -> list[Row]:
    return conn.execute("SELECT event, status, body FROM webhook_deliveries ORDER BY id").fetchall()


def events(conn: Connection) -> list[str]:
    return [row["event"] for row in deliveries(conn)]


def test_queued_tells_that_a_prediction_was_accepted(client: FlaskClient, conn: Connection) -> None:
    made = post_one(client, webhook=HOOK, webhook_events_filter=["completed", "queued"])
    [queued] = deliveries(conn)
    assert (queued["event"], queued["status"]) == ("queued", "pending")
    assert json.loads(queued["body"]) == made
    assert made["status"] == "starting"


@pytest.mark.parametrize("asked", [{}, {"webhook_events_filter": ["start", "output", "logs", "completed"]}])
def test_queued_is_sent_only_to_those_who_name_it(client: FlaskClient, conn: Connection, asked: dict[str, Any]) -> None:
    post_one(client, webhook=HOOK, **asked)
    assert events(conn) == []


def test_queued_without_a_webhook_is_nothing(client: FlaskClient, conn: Connection) -> None:
    post_one(client, webhook_events_filter=["queued"])
    assert events(conn) == []


def test_the_same_request_again_is_not_accepted_again(client: FlaskClient, conn: Connection) -> None:
    for _ in range(2):
        post_one(client, headers={"Idempotency-Key": "a"}, webhook=HOOK, webhook_events_filter=["queued"])
    assert events(conn) == ["queued"]


def test_an_unknown_event_is_refused_with_the_names_of_all(client: FlaskClient) -> None:
    detail = problem(post(client, webhook=HOOK, webhook_events_filter=["done"]), 422)["detail"]
    assert all(f"'{event}'" in detail for event in EVENTS)


def test_a_refused_prediction_sends_nothing(conn: Connection, renderer: Renderer) -> None:
    wanted = {"webhook": WEBHOOK, "webhook_events": ("queued",), "quota": Quota(max_queued=1)}
    for number in range(2):
        submission = Submission("m/m", "1", "q", {}, {}, 60.0, **wanted)  # type: ignore[arg-type]
        if number == 0:
            submit(conn, submission, renderer)
        else:
            with pytest.raises(QuotaExceeded):
                submit(conn, submission, renderer)
    assert events(conn) == ["queued"]


def test_an_event_that_can_not_be_written_leaves_no_prediction(conn: Connection, renderer: Renderer) -> None:
    conn.execute("ALTER TABLE webhook_deliveries ADD CONSTRAINT nothing CHECK (false)")
    with pytest.raises(psycopg.errors.CheckViolation):
        submit(conn, Submission("m/m", "1", "q", {}, {}, 60.0, webhook=WEBHOOK, webhook_events=("queued",)), renderer)
    assert count(conn, "predictions") == count(conn, "procrastinate_jobs") == 0


def test_completed_drops_a_queued_that_was_not_sent(client: FlaskClient, conn: Connection, renderer: Renderer) -> None:
    made = post_one(client, webhook=HOOK, webhook_events_filter=["queued", "completed"])
    finish(conn, renderer, made["id"], Canceled())
    assert [(row["event"], row["status"]) for row in deliveries(conn)] == [
        ("queued", "dropped"),
        ("completed", "pending"),
    ]


@pytest.mark.parametrize(
    ("asked", "after_success", "after_failure"),
    [
        (("output",), ["output"], []),
        (("completed",), ["completed"], ["completed"]),
        (("output", "completed"), ["completed"], ["completed"]),
        (("start",), ["start"], ["start"]),
    ],
)
def test_output_is_sent_only_to_those_who_do_not_get_completed(
    conn: Connection, renderer: Renderer, asked: tuple[str, ...], after_success: list[str], after_failure: list[str]
) -> None:
    for succeeds, expected in ((True, after_success), (False, after_failure)):
        submit_one(conn, webhook_events=asked)
        claimed = claim_one(conn, renderer)
        assert claimed is not None
        outcome = succeeded(claimed) if succeeds else Failed("no")
        finish(conn, renderer, claimed.prediction_id, outcome, claim_id=claimed.claim_id)
        assert events(conn) == expected
        if succeeds and "start" not in asked:
            assert json.loads(deliveries(conn)[0]["body"])["output"]
        conn.execute("DELETE FROM webhook_deliveries")
