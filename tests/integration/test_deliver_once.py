"""One attempt of a delivery: its claim, its POST and what is written of it, on the real database."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from psycopg_pool import ConnectionPool
from standardwebhooks import Webhook, WebhookVerificationError

from courier import slots
from courier.deliver import Deliverer
from courier.slots import Slots
from storage.access import signing_keys
from storage.access.sealing import IN_THE_CLEAR
from storage.postgres.clock import DatabaseClock
from storage.postgres.database import Connection, open_pool
from storage.settings import Settings
from storage.webhooks import outbox as deliveries
from storage.webhooks.events import EVENTS, WebhookEvent
from tests.integration.deliveries_of import BODY, insert_prediction, jobs, make_due, read, write
from tests.support.receivers import LOOPBACK_TARGETS, Answer, Receiver

SCHEDULE_S = (0.0, 5.0, 300.0)


@pytest.fixture
def deliverer(settings: Settings, conn: Connection) -> Iterator[Deliverer]:
    signing_keys.ensure_keys(conn, IN_THE_CLEAR)
    with open_pool(settings, application_name="test-courier", size=8) as pool:
        yield make_deliverer(pool)


def make_deliverer(pool: ConnectionPool[Connection]) -> Deliverer:
    return Deliverer(
        pool=pool,
        clock=DatabaseClock(pool),
        sealer=IN_THE_CLEAR,
        targets=LOOPBACK_TARGETS,
        schedule_s=SCHEDULE_S,
        timeout_s=5,
        slots=Slots(64),
    )


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


def test_a_delivery_and_its_job_are_written_together_or_not_at_all(conn: Connection) -> None:
    prediction_id = insert_prediction(conn)
    with conn.transaction(force_rollback=True):
        write(conn, "https://example.com", prediction_id=prediction_id)
        assert len(jobs(conn)) == 1
    assert jobs(conn) == []
    delivery_id = write(conn, "https://example.com", prediction_id=prediction_id)
    (job,) = jobs(conn)
    assert (job["delivery_id"], job["status"]) == (delivery_id, "todo")
    assert read(conn, delivery_id)["queue_job_id"] == job["id"]
    assert delivery_id.startswith("msg_")
    assert delivery_id == delivery_id.lower()


def test_the_body_arrives_byte_for_byte_and_its_signature_verifies(
    conn: Connection, deliverer: Deliverer, receiver: Receiver
) -> None:
    delivery_id = write(conn, receiver.url)
    deliverer.deliver_due()
    (request,) = receiver.requests
    assert request.body == BODY.encode()
    assert request.headers["webhook-id"] == delivery_id
    assert request.headers["content-type"] == "application/json"
    (secret,) = signing_keys.active_webhook_secrets(conn, IN_THE_CLEAR)
    Webhook(secret).verify(request.body, request.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret).verify(request.body + b" ", request.headers)
    row = read(conn, delivery_id)
    assert (row["status"], row["attempts"], row["last_status"]) == ("delivered", 1, 200)
    assert row["delivered_at"] is not None
    assert row["locked_until"] is None


def test_both_secrets_sign_while_one_is_being_rotated(
    conn: Connection, deliverer: Deliverer, receiver: Receiver
) -> None:
    conn.execute("UPDATE signing_keys SET retired_at = now() + interval '1 day' WHERE purpose = 'webhook'")
    signing_keys.ensure_keys(conn, IN_THE_CLEAR)
    new, old = signing_keys.active_webhook_secrets(conn, IN_THE_CLEAR)
    write(conn, receiver.url)
    deliverer.deliver_due()
    (request,) = receiver.requests
    assert len(request.headers["webhook-signature"].split(" ")) == 2
    for secret in (new, old):
        Webhook(secret).verify(request.body, request.headers)


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_every_2xx_delivers(conn: Connection, deliverer: Deliverer, receiver: Receiver, status: int) -> None:
    receiver.answers(Answer(status, body=b""))
    delivery_id = write(conn, receiver.url)
    deliverer.deliver_due()
    assert read(conn, delivery_id)["status"] == "delivered"


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 429, 500, 503])
def test_any_other_answer_is_retried_on_the_schedule(
    conn: Connection, deliverer: Deliverer, receiver: Receiver, status: int
) -> None:
    receiver.answers(Answer(status, {"Location": receiver.url}))
    delivery_id = write(conn, receiver.url)
    deliverer.deliver_due()
    assert len(receiver.requests) == 1
    row = read(conn, delivery_id)
    assert (row["status"], row["attempts"], row["last_status"]) == ("pending", 1, status)
    assert row["last_error"] == f"HTTP {status}"
    delay_s = (row["next_attempt_at"] - row["last_attempt_at"]).total_seconds()
    assert 4 <= delay_s <= 6.1
    retry = jobs(conn)[-1]
    assert (retry["id"], retry["scheduled_at"]) == (row["queue_job_id"], row["next_attempt_at"])


def test_a_retry_carries_the_same_id_and_body_and_a_new_signature_time(
    conn: Connection, deliverer: Deliverer, receiver: Receiver
) -> None:
    receiver.answers(Answer(500), Answer(200))
    delivery_id = write(conn, receiver.url)
    deliverer.deliver_due()
    deliverer.deliver_due()  # not due yet: nothing is sent
    assert len(receiver.requests) == 1
    make_due(conn, delivery_id)
    deliverer.deliver_due()
    first, second = receiver.requests
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == delivery_id
    assert first.body == second.body
    (secret,) = signing_keys.active_webhook_secrets(conn, IN_THE_CLEAR)
    Webhook(secret).verify(second.body, second.headers)
    row = read(conn, delivery_id)
    assert (row["status"], row["attempts"], row["last_error"]) == ("delivered", 2, None)


def test_the_schedule_ends_in_failure(conn: Connection, deliverer: Deliverer, receiver: Receiver) -> None:
    receiver.answers(Answer(500))
    delivery_id = write(conn, receiver.url)
    for _ in range(len(SCHEDULE_S) + 2):
        make_due(conn, delivery_id)
        deliverer.deliver_due()
    assert len(receiver.requests) == len(SCHEDULE_S)
    row = read(conn, delivery_id)
    assert (row["status"], row["attempts"], row["queue_job_id"]) == ("failed", 3, None)


def test_410_ends_it_at_once(conn: Connection, deliverer: Deliverer, receiver: Receiver) -> None:
    receiver.answers(Answer(410))
    delivery_id = write(conn, receiver.url)
    deliverer.deliver_due()
    row = read(conn, delivery_id)
    assert (row["status"], row["attempts"], row["last_status"]) == ("failed", 1, 410)


@pytest.mark.parametrize(("asked", "expected_s"), [("7", 7), ("3600", 10), ("1", 5), ("0", 5)])
def test_retry_after_is_honoured_within_one_to_two_base_delays(
    conn: Connection, deliverer: Deliverer, receiver: Receiver, asked: str, expected_s: float
) -> None:
    receiver.answers(Answer(429, {"Retry-After": asked}))
    delivery_id = write(conn, receiver.url)
    deliverer.deliver_due()
    row = read(conn, delivery_id)
    delay_s = (row["next_attempt_at"] - row["last_attempt_at"]).total_seconds()
    assert delay_s == pytest.approx(expected_s, abs=0.5)


@pytest.mark.parametrize("event", [event for event in EVENTS if event != "completed"])
def test_an_event_on_the_way_gets_one_attempt(
    conn: Connection, deliverer: Deliverer, receiver: Receiver, event: WebhookEvent
) -> None:
    receiver.answers(Answer(500))
    delivery_id = write(conn, receiver.url, event=event)
    deliverer.deliver_due()
    assert (read(conn, delivery_id)["status"], read(conn, delivery_id)["attempts"]) == ("failed", 1)


def test_completed_drops_the_events_that_were_not_sent_yet(
    conn: Connection, deliverer: Deliverer, receiver: Receiver
) -> None:
    prediction_id = insert_prediction(conn)
    sent = write(conn, receiver.url, event="start", prediction_id=prediction_id)
    deliverer.deliver_due()
    unsent = write(conn, receiver.url, event="output", prediction_id=prediction_id)
    of_another = write(conn, receiver.url, event="output")
    completed = write(conn, receiver.url, prediction_id=prediction_id)
    assert unsent not in [job["delivery_id"] for job in jobs(conn)]
    statuses = [read(conn, delivery_id)["status"] for delivery_id in (sent, unsent, of_another, completed)]
    assert statuses == ["delivered", "dropped", "pending", "pending"]
    deliverer.deliver_due()
    assert [request.headers["webhook-id"] for request in receiver.requests] == [sent, of_another, completed]


def test_an_event_that_was_in_flight_while_completed_was_written_counts_as_delivered(
    conn: Connection, deliverer: Deliverer, receiver: Receiver
) -> None:
    prediction_id = insert_prediction(conn)
    start = write(conn, receiver.url, event="start", prediction_id=prediction_id)

    def write_completed(_: object) -> Answer:
        receiver.answers(Answer(200))
        write(conn, receiver.url, prediction_id=prediction_id)
        return Answer(200)

    receiver.answer = write_completed
    deliverer.deliver_due()
    assert read(conn, start)["status"] == "delivered"


def test_two_couriers_that_are_woken_for_one_delivery_send_it_once(
    conn: Connection, deliverer: Deliverer, receiver: Receiver
) -> None:
    receiver.answers(Answer(200, delay_s=0.3))
    for _ in range(5):
        delivery_id = write(conn, receiver.url)
        with ThreadPoolExecutor(6) as threads:
            list(threads.map(lambda _: deliverer.deliver_due(), range(6)))
        assert read(conn, delivery_id)["status"] == "delivered"
    assert len(receiver.requests) == 5


def test_a_courier_that_died_in_mid_post_is_followed_by_another_with_the_same_id(
    conn: Connection, deliverer: Deliverer, receiver: Receiver
) -> None:
    delivery_id = write(conn, receiver.url)
    # The dead courier had claimed it, fetched its job, and perhaps even POSTed.
    claimed = deliveries.claim_next(conn, deliveries.EVERYTHING_OPEN, lock_for=timedelta(seconds=0.1))
    assert claimed is not None
    conn.execute("UPDATE procrastinate_jobs SET status = 'doing'")
    make_due(conn, delivery_id)
    time.sleep(0.15)
    assert deliveries.ring_overdue(conn) == 1
    assert deliveries.ring_overdue(conn) == 0
    assert jobs(conn)[-1]["id"] == read(conn, delivery_id)["queue_job_id"]
    deliverer.deliver_due()
    (request,) = receiver.requests
    assert request.headers["webhook-id"] == delivery_id
    # The dead courier comes back to life: its fence is gone.
    assert not deliveries.record_failed(conn, claimed, status=None, error="late")
    assert not deliveries.record_retry(conn, claimed, delay=timedelta(0), status=None, error="late")
    assert not deliveries.postpone(conn, claimed, delay=timedelta(0))
    assert not deliveries.record_delivered(conn, claimed, status=200)
    assert read(conn, delivery_id)["attempts"] == 1


def test_a_locked_delivery_is_neither_claimed_nor_rung(conn: Connection) -> None:
    delivery_id = write(conn, "https://example.com")
    make_due(conn, delivery_id)
    assert deliveries.claim_next(conn, deliveries.EVERYTHING_OPEN, lock_for=timedelta(minutes=1)) is not None
    conn.execute("DELETE FROM procrastinate_jobs")
    assert deliveries.claim_next(conn, deliveries.EVERYTHING_OPEN, lock_for=timedelta(minutes=1)) is None
    assert deliveries.ring_overdue(conn) == 0


def test_a_delivery_whose_job_waits_is_not_rung_again(conn: Connection) -> None:
    make_due(conn, write(conn, "https://example.com"))
    assert deliveries.ring_overdue(conn) == 0
    conn.execute("DELETE FROM procrastinate_jobs")
    assert deliveries.ring_overdue(conn) == 1


def test_a_receiver_that_cannot_be_reached_is_retried_and_the_row_says_why(
    conn: Connection, deliverer: Deliverer
) -> None:
    for url, reason in (
        ("http://10.1.2.3/", "WEBHOOK_ALLOW=10.1.2.3"),
        ("http://nobody.invalid/", "nobody.invalid"),
        ("http://127.0.0.1:1024/", "refused"),
    ):
        delivery_id = write(conn, url)
        deliverer.deliver_due()
        row = read(conn, delivery_id)
        assert (row["status"], row["last_status"]) == ("pending", None)
        assert reason in row["last_error"]


def test_what_is_no_url_is_given_up_at_once(conn: Connection, deliverer: Deliverer) -> None:
    delivery_id = write(conn, "ftp://example.com")
    deliverer.deliver_due()
    assert read(conn, delivery_id)["status"] == "failed"


def test_a_busy_address_postpones_without_using_up_an_attempt(
    conn: Connection, deliverer: Deliverer, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "SLOTS_PER_ADDRESS", 8)  # 4 of one token; its host has as many, counted by name
    monkeypatch.setattr(slots, "MIN_STAY_AWAY_S", 20.0)
    receiver.answers(Answer(200, delay_s=2))
    hosts = ("127.0.0.1", "localhost")
    ids = [write(conn, f"http://{hosts[number % 2]}:{receiver.port}/hook") for number in range(6)]
    with ThreadPoolExecutor(6) as threads:
        list(threads.map(lambda _: deliverer.deliver_due(), ids))
    rows = [read(conn, delivery_id) for delivery_id in ids]
    assert sorted(row["status"] for row in rows) == ["delivered"] * 4 + ["pending"] * 2
    for row in rows:
        if row["status"] == "pending":
            assert (row["attempts"], row["locked_until"], row["last_error"]) == (0, None, None)
            assert row["next_attempt_at"] > row["created_at"]
            assert jobs(conn)[-1]["scheduled_at"] is not None


def test_an_interrupted_post_is_due_again_at_once_and_uses_up_no_attempt(
    conn: Connection, deliverer: Deliverer, receiver: Receiver
) -> None:
    receiver.answers(Answer(200, delay_s=20))
    delivery_id = write(conn, receiver.url)
    thread = threading.Thread(target=deliverer.deliver_due)
    thread.start()
    receiver.wait_for(1)
    deliverer.interrupted.set()
    thread.join(10)
    assert not thread.is_alive()
    row = read(conn, delivery_id)
    assert (row["status"], row["attempts"], row["locked_until"]) == ("pending", 0, None)
    assert row["queue_job_id"] == jobs(conn)[-1]["id"]


def test_an_outcome_that_cannot_be_written_is_tried_again_while_the_lock_lasts(
    conn: Connection, deliverer: Deliverer, receiver: Receiver
) -> None:
    def cut_connections(_: object) -> Answer:
        # The pool's connections are gone, and so is the next one that it opens: only then does it work.
        conn.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test-courier'")
        conn.execute("ALTER TABLE webhook_deliveries RENAME TO webhook_deliveries_away")
        return Answer(200)

    receiver.answer = cut_connections
    delivery_id = write(conn, receiver.url)
    thread = threading.Thread(target=deliverer.deliver_due)
    thread.start()
    receiver.wait_for(1)
    time.sleep(0.5)
    conn.execute("ALTER TABLE webhook_deliveries_away RENAME TO webhook_deliveries")
    thread.join(20)
    assert not thread.is_alive()
    assert read(conn, delivery_id)["status"] == "delivered"


def test_without_a_database_nothing_is_raised_and_nothing_is_sent(
    settings: Settings, receiver: Receiver, conn: Connection
) -> None:
    write(conn, receiver.url)
    elsewhere = settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/nowhere"})
    pool = open_pool(elsewhere, application_name="test-courier")
    try:
        make_deliverer(pool).deliver_due()
    finally:
        pool.close()
    assert receiver.requests == []


def test_jobs_that_nobody_will_touch_again_are_pruned(conn: Connection) -> None:
    for _ in range(5):
        write(conn, "https://example.com")
    todo, doing, orphaned, failed, stalled = (job["id"] for job in jobs(conn))
    (alive,) = (row["worker_id"] for row in conn.execute("SELECT * FROM procrastinate_register_worker_v1()"))
    (gone,) = (row["worker_id"] for row in conn.execute("SELECT * FROM procrastinate_register_worker_v1()"))
    conn.execute("UPDATE procrastinate_workers SET last_heartbeat = now() - interval '1 h' WHERE id = %s", (gone,))
    for job_id, status, worker_id in (
        (doing, "doing", alive),
        (orphaned, "doing", None),
        (failed, "failed", alive),
        (stalled, "doing", gone),
    ):
        conn.execute(
            "UPDATE procrastinate_jobs SET status = %s, worker_id = %s WHERE id = %s", (status, worker_id, job_id)
        )
    assert deliveries.prune_jobs(conn) == 3
    assert [job["id"] for job in jobs(conn)] == [todo, doing]


def test_a_delivery_of_no_prediction_cannot_be_written(conn: Connection) -> None:
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        write(conn, "https://example.com", prediction_id="nobody")
