"""Submit, claim, renew, hand back, finish, rescue: each transaction and its fence."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from storage.postgres.database import Connection, Row, connect
from storage.predictions.claim import NeedsEmptyWorker, claim, hand_back, renew
from storage.predictions.finish import Canceled, Failed, finish
from storage.predictions.read import read_images, read_prediction
from storage.predictions.render import Renderer
from storage.predictions.rescue import expire_leases_of_process, rescue_once
from storage.predictions.states import MAX_ATTEMPTS, MAX_CRASHES
from storage.settings import Settings
from storage.workers.demand import Demand, waiting_by_model
from storage.workers.registry import WorkerRow, say_alive
from tests.support.making import MODEL, QUEUE, claim_one, count, expire_lease, submit_one, succeeded


def read(conn: Connection, prediction_id: str) -> Row:
    row = read_prediction(conn, prediction_id)
    assert row is not None
    return row


def rescue(conn: Connection, renderer: Renderer) -> Any:
    return rescue_once(conn, renderer, expire=True)


def test_submit_writes_the_row_and_its_bell_together(conn: Connection) -> None:
    row = submit_one(conn)
    assert row["status"] == "starting"
    assert count(conn, "procrastinate_jobs", f"id = {row['queue_job_id']} AND status = 'todo'") == 1


def test_a_submit_that_is_rolled_back_leaves_neither(conn: Connection) -> None:
    with conn.transaction(force_rollback=True):
        submit_one(conn)
    assert count(conn, "predictions") == 0
    assert count(conn, "procrastinate_jobs") == 0


def test_a_claim_takes_the_oldest_and_draws_a_fence(conn: Connection, renderer: Renderer) -> None:
    first, second = submit_one(conn), submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert claimed.prediction_id == first["id"]
    assert (claimed.attempt, claimed.must_be_alone) == (1, False)
    again = claim_one(conn, renderer)
    assert again is not None
    assert again.prediction_id == second["id"]
    assert claim_one(conn, renderer) is None


def test_priority_goes_before_age(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    urgent = submit_one(conn, priority=5)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert claimed.prediction_id == urgent["id"]


def test_finish_writes_state_images_webhook_and_removes_the_bell(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    row = finish(conn, renderer, claimed.prediction_id, succeeded(claimed, images=2), claim_id=claimed.claim_id)
    assert row is not None
    assert row["status"] == "succeeded"
    assert row["claim_id"] is None
    assert set(row["metrics"]) == {"image_count", "predict_time", "queue_time", "total_time"}
    images = read_images(conn, [row["id"]])[row["id"]]
    assert [image["index"] for image in images] == [0, 1]
    assert count(conn, "procrastinate_jobs", f"queue_name = '{QUEUE}'") == 0
    delivery = conn.execute("SELECT * FROM webhook_deliveries").fetchone()
    assert delivery is not None
    assert delivery["body"] == renderer.body(read(conn, row["id"]), images)
    assert len(json.loads(delivery["body"])["output"]) == 2


def test_a_finish_that_breaks_half_way_changes_nothing(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    outcome = succeeded(claimed)
    broken = type(outcome)([*outcome.images, *outcome.images])  # the second one's key is taken
    with pytest.raises(psycopg.errors.UniqueViolation):
        finish(conn, renderer, claimed.prediction_id, broken, claim_id=claimed.claim_id)
    assert read(conn, claimed.prediction_id)["status"] == "processing"
    assert count(conn, "objects") == count(conn, "images") == count(conn, "webhook_deliveries") == 0


def test_the_result_of_a_stale_claim_is_not_published(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    stale = claim_one(conn, renderer)
    assert stale is not None
    expire_lease(conn, stale.prediction_id)
    assert rescue(conn, renderer).expired_leases == 1
    assert finish(conn, renderer, stale.prediction_id, succeeded(stale), claim_id=stale.claim_id) is None
    current = claim_one(conn, renderer)
    assert current is not None
    assert current.prediction_id == stale.prediction_id
    assert current.attempt == 2
    assert finish(conn, renderer, stale.prediction_id, succeeded(stale), claim_id=stale.claim_id) is None
    assert hand_back(conn, renderer, stale.prediction_id, stale.claim_id) is False
    assert finish(conn, renderer, current.prediction_id, succeeded(current), claim_id=current.claim_id) is not None
    images = read_images(conn, [current.prediction_id])[current.prediction_id]
    assert [str(current.claim_id) in image["object_key"] for image in images] == [True]
    assert count(conn, "webhook_deliveries") == 1


def test_cancel_is_terminal_at_once_and_only_once(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert finish(conn, renderer, claimed.prediction_id, Canceled()) is not None
    assert finish(conn, renderer, claimed.prediction_id, Canceled()) is None
    assert finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id) is None
    assert read(conn, claimed.prediction_id)["status"] == "canceled"
    assert count(conn, "webhook_deliveries") == 1


def test_a_canceled_prediction_is_not_claimed_and_its_stale_bell_is_swept(conn: Connection, renderer: Renderer) -> None:
    row = submit_one(conn)
    waiting = submit_one(conn)
    finish(conn, renderer, row["id"], Canceled())
    # As if the bell had been locked by a fetch while the cancel removed it:
    conn.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name, args, priority)"
        " VALUES (%s, 'darkroom:draw', jsonb_build_object('prediction_id', %s::text), 9)",
        (QUEUE, row["id"]),
    )
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert claimed.prediction_id == waiting["id"]
    assert count(conn, "procrastinate_jobs", f"queue_name = '{QUEUE}' AND status = 'todo'") == 0


def test_renewal_extends_only_the_claims_that_are_named(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn), submit_one(conn)
    one, other = claim_one(conn, renderer), claim_one(conn, renderer)
    assert one is not None
    assert other is not None
    before = read(conn, other.prediction_id)["lease_expires_at"]
    assert renew(conn, [(one.prediction_id, one.claim_id)]) == {one.claim_id}
    assert read(conn, one.prediction_id)["lease_expires_at"] > one.prediction["lease_expires_at"]
    assert read(conn, other.prediction_id)["lease_expires_at"] == before
    finish(conn, renderer, one.prediction_id, Canceled())
    assert renew(conn, [(one.prediction_id, one.claim_id), (other.prediction_id, uuid4())]) == set()


def test_hand_back_keeps_the_place_in_the_queue_and_counts_no_crash(conn: Connection, renderer: Renderer) -> None:
    first = submit_one(conn)
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert hand_back(conn, renderer, claimed.prediction_id, claimed.claim_id)
    row = read(conn, first["id"])
    assert (row["status"], row["crashes"], row["queue_job_id"]) == ("starting", 0, first["queue_job_id"])
    again = claim_one(conn, renderer)
    assert again is not None
    assert again.prediction_id == first["id"]


def test_hand_back_rings_where_workers_listen(conn: Connection, renderer: Renderer, settings: Settings) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    with connect(settings.database_url, application_name="listener") as listener:
        listener.execute(f'LISTEN "procrastinate_queue_v1#{QUEUE}"')
        hand_back(conn, renderer, claimed.prediction_id, claimed.claim_id)
        assert len(list(listener.notifies(timeout=5, stop_after=1))) == 1


def test_a_prediction_whose_workers_keep_dying_fails_with_the_reason(conn: Connection, renderer: Renderer) -> None:
    row = submit_one(conn)
    for crashes in range(MAX_CRASHES):
        claimed = claim_one(conn, renderer)
        assert claimed is not None
        assert claimed.must_be_alone is (crashes > 0)
        expire_lease(conn, row["id"])
        assert rescue(conn, renderer).expired_leases == 1
    row = read(conn, row["id"])
    assert row["status"] == "failed"
    assert "died 3 times" in row["error"]
    assert claim_one(conn, renderer) is None
    assert count(conn, "webhook_deliveries") == 1


def test_one_that_was_claimed_too_often_fails(conn: Connection, renderer: Renderer) -> None:
    row = submit_one(conn)
    for _ in range(MAX_ATTEMPTS):
        claimed = claim_one(conn, renderer)
        assert claimed is not None
        hand_back(conn, renderer, claimed.prediction_id, claimed.claim_id)
    assert read(conn, row["id"])["status"] == "failed"


def test_a_prediction_that_killed_a_worker_waits_for_an_empty_one(conn: Connection, renderer: Renderer) -> None:
    row = submit_one(conn)
    assert claim_one(conn, renderer) is not None
    expire_lease(conn, row["id"])
    rescue(conn, renderer)
    with pytest.raises(NeedsEmptyWorker):
        claim_one(conn, renderer, holds_others=True)
    assert read(conn, row["id"])["status"] == "starting"
    assert claim_one(conn, renderer) is not None


def test_healthy_leases_and_reconnects_expire_nothing(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert not rescue(conn, renderer)
    conn.execute("UPDATE predictions SET lease_expires_at = clock_timestamp() - interval '1 minute'")
    assert not rescue_once(conn, renderer, expire=False)


def test_claims_of_a_process_that_was_seen_to_die_are_taken_back_also_after_a_reconnect(
    conn: Connection, renderer: Renderer
) -> None:
    row = submit_one(conn)
    worker = WorkerRow(id=uuid4(), hostname="here", pid=4711, model=MODEL, state="drawing")
    say_alive(conn, worker)
    bell_worker_id = conn.execute("SELECT worker_id FROM procrastinate_register_worker_v1()").fetchone()
    assert bell_worker_id is not None
    assert claim(
        conn,
        renderer,
        queue_name=QUEUE,
        worker_id=worker.id,
        bell_worker_id=bell_worker_id["worker_id"],
        holds_others=False,
    )
    assert expire_leases_of_process(conn, "elsewhere", 4711) == 0
    assert expire_leases_of_process(conn, "here", 4711) == 1
    assert rescue_once(conn, renderer, expire=False).expired_leases == 1
    assert read(conn, row["id"])["status"] == "starting"
    assert count(conn, "workers") == 0


@pytest.mark.parametrize("claimed_first", [False, True])
def test_a_passed_deadline_cancels(conn: Connection, renderer: Renderer, claimed_first: bool) -> None:
    row = submit_one(conn)
    if claimed_first:
        assert claim_one(conn, renderer) is not None
    conn.execute("UPDATE predictions SET deadline_at = clock_timestamp() - interval '1 s'")
    assert claim_one(conn, renderer) is None
    assert rescue(conn, renderer).passed_deadlines == 1
    row = read(conn, row["id"])
    assert row["status"] == "canceled"
    assert "deadline" in row["error"]


@pytest.mark.parametrize("loss", ["DELETE FROM procrastinate_jobs", "UPDATE procrastinate_jobs SET status = 'failed'"])
def test_a_lost_bell_rings_again(conn: Connection, renderer: Renderer, loss: str) -> None:
    row = submit_one(conn)
    conn.execute(loss)
    assert claim_one(conn, renderer) is None
    assert rescue(conn, renderer).lost_bells == 1
    assert not rescue(conn, renderer)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert claimed.prediction_id == row["id"]


def test_a_bell_that_was_left_in_doing_is_swept(conn: Connection, renderer: Renderer) -> None:
    row = submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    finish(conn, renderer, row["id"], Canceled())
    conn.execute(
        "INSERT INTO procrastinate_jobs (id, queue_name, task_name, args, status)"
        " VALUES (%s, %s, 'darkroom:draw', jsonb_build_object('prediction_id', %s::text), 'doing')",
        (row["queue_job_id"], QUEUE, row["id"]),
    )
    assert rescue(conn, renderer).leftover_bells == 1
    assert count(conn, "procrastinate_jobs", f"queue_name = '{QUEUE}'") == 0


def test_the_start_event_is_written_at_the_first_claim_only(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn, webhook_events=("start", "completed"))
    for _ in range(2):
        claimed = claim_one(conn, renderer)
        assert claimed is not None
        hand_back(conn, renderer, claimed.prediction_id, claimed.claim_id)
    events = conn.execute("SELECT event, body FROM webhook_deliveries").fetchall()
    assert [event["event"] for event in events] == ["start"]
    assert json.loads(events[0]["body"])["status"] == "processing"


def test_completed_drops_what_was_not_sent(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn, webhook_events=("start", "completed"))
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    finish(conn, renderer, claimed.prediction_id, Failed("no"), claim_id=claimed.claim_id)
    rows = conn.execute("SELECT event, status FROM webhook_deliveries ORDER BY created_at").fetchall()
    assert [(row["event"], row["status"]) for row in rows] == [("start", "dropped"), ("completed", "pending")]


def test_no_webhook_no_delivery(conn: Connection, renderer: Renderer) -> None:
    submit_one(conn, webhook=None, webhook_events=())
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id)
    assert count(conn, "webhook_deliveries") == 0


def test_demand_counts_what_waits_and_what_is_drawn(conn: Connection, renderer: Renderer) -> None:
    assert waiting_by_model(conn) == {}
    for _ in range(3):
        submit_one(conn)
    assert claim_one(conn, renderer) is not None
    demand = waiting_by_model(conn)[MODEL]
    assert demand == Demand(waiting=2, processing=1, oldest_wait_s=demand.oldest_wait_s)
    conn.execute("UPDATE predictions SET created_at = created_at - interval '1 hour' WHERE status = 'processing'")
    conn.execute("UPDATE predictions SET created_at = created_at - interval '1 minute' WHERE status = 'starting'")
    assert 60 <= waiting_by_model(conn)[MODEL].oldest_wait_s < 3600, "only those that wait count"
