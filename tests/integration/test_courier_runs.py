"""The whole courier: run_courier with its worker and its rescue, on the real database."""

import signal
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from courier import rescue
from storage.postgres.database import Connection, connect
from storage.predictions.render import open_renderer
from storage.predictions.rescue import expire_leases_of_process
from storage.settings import Settings
from tests.integration.courier_running import process, running
from tests.integration.deliveries_of import insert_prediction, jobs, read, write
from tests.support.eventually import eventually
from tests.support.receivers import Answer, Receiver

SCHEDULE_S = (0.0, 0.5, 1.0, 1.0)


@pytest.fixture
def courier_settings(settings: Settings, conn: Connection) -> Settings:
    """The signing keys are there, as the API makes them: a quick courier that finds none waits for long."""
    open_renderer(settings, conn)
    return settings.model_copy(update={"webhook_retry_schedule": SCHEDULE_S, "webhook_timeout_s": 5.0})


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


def test_deliveries_arrive_and_leave_no_job_behind(
    courier_settings: Settings, conn: Connection, receiver: Receiver
) -> None:
    before = [write(conn, receiver.url) for _ in range(3)]
    with running(courier_settings):
        receiver.wait_for(3)
        after = [write(conn, receiver.url) for _ in range(20)]
        requests = receiver.wait_for(23)
        assert sorted(request.headers["webhook-id"] for request in requests) == sorted(before + after)
        eventually(lambda: all(read(conn, id_)["status"] == "delivered" for id_ in before + after))
        eventually(lambda: jobs(conn) == [])


def test_a_failing_receiver_is_called_on_the_schedule_until_it_answers(
    courier_settings: Settings, conn: Connection, receiver: Receiver
) -> None:
    receiver.answers(Answer(500), Answer(503), Answer(200))
    with running(courier_settings):
        delivery_id = write(conn, receiver.url)
        first, second, third = receiver.wait_for(3)
        eventually(lambda: read(conn, delivery_id)["status"] == "delivered")
        eventually(lambda: jobs(conn) == [])
    assert {request.headers["webhook-id"] for request in (first, second, third)} == {delivery_id}
    assert {request.body for request in (first, second, third)} == {first.body}
    # 0.5 and 1 s, less a fifth of jitter.
    assert second.at - first.at > 0.35
    assert third.at - second.at > 0.75


def test_two_couriers_deliver_each_event_once(courier_settings: Settings, conn: Connection, receiver: Receiver) -> None:
    with running(courier_settings, couriers=2):
        ids = [write(conn, receiver.url) for _ in range(100)]
        eventually(lambda: all(read(conn, id_)["status"] == "delivered" for id_ in ids))
    assert sorted(request.headers["webhook-id"] for request in receiver.requests) == sorted(ids)


def test_a_slow_receiver_does_not_hold_up_the_others(
    courier_settings: Settings, conn: Connection, receiver: Receiver
) -> None:
    slow_host = f"http://localhost:{receiver.port}/slow"  # another host name, so other places
    receiver.answer = lambda request: Answer(200, delay_s=3 if request.path == "/slow" else 0)
    with running(courier_settings):
        slow = [write(conn, slow_host) for _ in range(40)]
        receiver.wait_for(4)
        quick = [write(conn, receiver.url) for _ in range(20)]
        eventually(lambda: all(read(conn, id_)["status"] == "delivered" for id_ in quick), timeout_s=20)
        assert any(read(conn, id_)["status"] == "pending" for id_ in slow)
        assert all(read(conn, id_)["attempts"] <= 1 for id_ in slow)


def test_a_lost_job_is_rung_again(courier_settings: Settings, conn: Connection, receiver: Receiver) -> None:
    delivery_id = write(conn, receiver.url)
    conn.execute("DELETE FROM procrastinate_jobs")
    with running(courier_settings):
        (request,) = receiver.wait_for(1)
    assert request.headers["webhook-id"] == delivery_id


def test_a_courier_killed_in_mid_post_is_followed_by_another_with_the_same_id(
    courier_settings: Settings, conn: Connection, receiver: Receiver
) -> None:
    receiver.answers(Answer(200, delay_s=20))
    with process(courier_settings) as courier:
        delivery_id = write(conn, receiver.url)
        receiver.wait_for(1)
        courier.kill()
        courier.wait()
    assert read(conn, delivery_id)["attempts"] == 0
    # The lock of the dead courier runs out; here at once, so that the test need not wait for it.
    conn.execute("UPDATE webhook_deliveries SET locked_until = clock_timestamp()")
    receiver.answers(Answer(200))
    with running(courier_settings):
        first, second = receiver.wait_for(2)
        eventually(lambda: read(conn, delivery_id)["status"] == "delivered")
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == delivery_id
    assert first.body == second.body


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_courier_that_is_told_to_stop_exits_with_0_and_gives_back_what_it_holds(
    courier_settings: Settings, conn: Connection, receiver: Receiver, number: signal.Signals
) -> None:
    receiver.answers(Answer(200, delay_s=30))
    settings = courier_settings.model_copy(update={"webhook_timeout_s": 30.0})
    with process(settings) as courier:
        delivery_id = write(conn, receiver.url)
        receiver.wait_for(1)
        courier.send_signal(number)
        assert courier.wait(20) == 0
    row = read(conn, delivery_id)
    assert (row["status"], row["attempts"], row["locked_until"]) == ("pending", 0, None)


def test_a_post_that_fits_into_the_grace_is_finished_before_the_courier_stops(
    courier_settings: Settings, conn: Connection, receiver: Receiver
) -> None:
    receiver.answers(Answer(200, delay_s=1))
    with process(courier_settings) as courier:
        delivery_id = write(conn, receiver.url)
        receiver.wait_for(1)
        courier.terminate()
        assert courier.wait(20) == 0
    assert read(conn, delivery_id)["status"] == "delivered"
    assert len(receiver.requests) == 1
    assert jobs(conn) == []


def test_a_courier_without_a_database_waits_for_it_and_stops_when_told(courier_settings: Settings) -> None:
    nowhere = courier_settings.model_copy(update={"database_url": "postgresql://127.0.0.1:1/nowhere"})
    with process(nowhere) as courier:
        time.sleep(2)  # it tries, and tries again
        assert courier.poll() is None
        courier.terminate()
        assert courier.wait(20) == 0


def test_lost_connections_are_made_again(courier_settings: Settings, conn: Connection, receiver: Receiver) -> None:
    with running(courier_settings):
        write(conn, receiver.url)
        receiver.wait_for(1)
        for count in range(2, 5):
            conn.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE pid <> pg_backend_pid() AND datname = current_database()"
            )
            delivery_id = write(conn, receiver.url)
            requests = receiver.wait_for(count)
            assert delivery_id in [request.headers["webhook-id"] for request in requests]


def test_the_worker_is_started_again_when_it_ends(
    courier_settings: Settings, conn: Connection, receiver: Receiver
) -> None:
    with running(courier_settings):
        write(conn, receiver.url)
        receiver.wait_for(1)
        # What a long network cut leads to: another worker prunes it, and each of its fetches fails.
        conn.execute("DELETE FROM procrastinate_workers")
        delivery_id = write(conn, receiver.url)
        requests = receiver.wait_for(2)
        assert requests[-1].headers["webhook-id"] == delivery_id
        eventually(lambda: read(conn, delivery_id)["status"] == "delivered")


def test_the_courier_takes_no_job_of_another_queue(
    courier_settings: Settings, conn: Connection, receiver: Receiver
) -> None:
    conn.execute(
        "INSERT INTO procrastinate_jobs (queue_name, task_name) VALUES ('draw-darkroom.blank', 'darkroom:draw')"
    )
    with running(courier_settings):
        write(conn, receiver.url)
        receiver.wait_for(1)
        time.sleep(1.5)
        row = conn.execute("SELECT status FROM procrastinate_jobs WHERE task_name = 'darkroom:draw'").fetchone()
    assert row == {"status": "todo"}


def test_rescue_ends_a_prediction_whose_deadline_passed_while_the_queue_stands_still(
    courier_settings: Settings, conn: Connection
) -> None:
    prediction_id = _insert_overdue(conn)
    with running(courier_settings):
        eventually(lambda: _status(conn, prediction_id) == "canceled")


def test_rescue_expires_no_lease_right_after_it_connected(
    courier_settings: Settings, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    prediction_id = insert_prediction(conn)
    conn.execute(
        """
        UPDATE predictions SET status = 'processing', completed_at = NULL, attempt = 1,
            claim_id = gen_random_uuid(), lease_expires_at = now() - interval '1 h' WHERE id = %s
        """,
        (prediction_id,),
    )
    monkeypatch.setattr(rescue, "EXPIRE_NOTHING_FOR_S", 3600.0)
    with running(courier_settings):
        for _ in range(2):  # two turns of rescue have passed
            overdue = _insert_overdue(conn)
            eventually(partial(_is_canceled, conn, overdue))
        assert _status(conn, prediction_id) == "processing"
    monkeypatch.setattr(rescue, "EXPIRE_NOTHING_FOR_S", 0.0)
    with running(courier_settings):
        eventually(lambda: _status(conn, prediction_id) == "starting")


def test_rescue_is_woken_when_a_process_was_seen_to_die(
    courier_settings: Settings, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "RESCUE_EVERY_S", 3600.0)
    overdue = _insert_overdue(conn)
    with running(courier_settings):
        eventually(lambda: _status(conn, overdue) == "canceled")  # the only turn that comes by itself
        prediction_id = _insert_claim_of_dead_worker(conn, pid=2)
        assert expire_leases_of_process(conn, "gpu-node", 2) == 1
        eventually(lambda: _status(conn, prediction_id) == "starting")


def _insert_claim_of_dead_worker(conn: Connection, *, pid: int) -> str:
    prediction_id = insert_prediction(conn)
    conn.execute(
        """
        WITH worker AS (
            INSERT INTO workers (id, hostname, pid, model, state)
            VALUES (gen_random_uuid(), 'gpu-node', %s, 'darkroom/blank', 'drawing') RETURNING id
        )
        UPDATE predictions SET status = 'processing', completed_at = NULL, attempt = 1, worker_id = worker.id,
            claim_id = gen_random_uuid(), lease_expires_at = now() + interval '1 h'
        FROM worker WHERE predictions.id = %s
        """,
        (pid, prediction_id),
    )
    return prediction_id


def _insert_overdue(conn: Connection) -> str:
    prediction_id = insert_prediction(conn)
    conn.execute(
        "UPDATE predictions SET status = 'starting', completed_at = NULL, deadline_at = now() WHERE id = %s",
        (prediction_id,),
    )
    return prediction_id


def _is_canceled(conn: Connection, prediction_id: str) -> bool:
    return _status(conn, prediction_id) == "canceled"


def _status(conn: Connection, prediction_id: str) -> str:
    row = conn.execute("SELECT status FROM predictions WHERE id = %s", (prediction_id,)).fetchone()
    assert row is not None
    status: str = row["status"]
    return status


def test_couriers_leave_no_connection_and_no_thread_behind(courier_settings: Settings, conn: Connection) -> None:
    with running(courier_settings):
        eventually(lambda: _courier_connections(courier_settings) > 0)
    # The sweep of the bucket ends with its call to S3, which may take its three attempts of 30 s.
    eventually(lambda: _courier_connections(courier_settings) == 0, timeout_s=150)
    eventually(lambda: not _courier_threads())


def test_a_courier_that_is_told_to_stop_while_it_starts_closes_what_it_has_opened(
    courier_settings: Settings, conn: Connection
) -> None:
    for moment in range(30):  # from the first look at the database to a worker that listens
        with running(courier_settings):
            time.sleep(0.012 * moment)
    eventually(lambda: _courier_connections(courier_settings) == 0)
    eventually(lambda: not _courier_threads())


def _courier_threads() -> list[str]:
    names = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    return [name for name in names if name.startswith(("courier", "rescue", "pool-"))]


def _courier_connections(settings: Settings) -> int:
    with connect(settings.database_url, application_name="test-count") as conn:
        row = conn.execute(
            "SELECT count(*) AS count FROM pg_stat_activity "
            "WHERE application_name LIKE 'darkroom-%%' AND datname = current_database()"
        ).fetchone()
    assert row is not None
    count: int = row["count"]
    return count
