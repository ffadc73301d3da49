"""Webhooks of one token arrive while another one's receivers hang: the whole courier, on the real database."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

import pytest

from storage.postgres.database import Connection, connect
from storage.settings import Settings
from storage.webhooks import outbox as deliveries
from storage.webhooks.outbox import EVERYTHING_OPEN, Openings, claim_next
from tests.integration.courier_running import running
from tests.integration.deliveries_of import insert_prediction, jobs, read, write
from tests.support.eventually import eventually
from tests.support.receivers import Answer, Receiver

HANGING, OTHER = 1, 2
LOCK_FOR = timedelta(seconds=30)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver().serving() as receiver:
        yield receiver


@pytest.fixture
def hanging() -> Iterator[list[str]]:
    """URLs of 40 receivers, each on an address of its own, that accept connections and say nothing."""
    with ExitStack() as sockets:
        listening = [
            sockets.enter_context(socket.create_server((f"127.0.2.{n + 1}", 0), backlog=64)) for n in range(40)
        ]
        yield ["http://{}:{}/hang".format(*server.getsockname()) for server in listening]


def prediction_of(conn: Connection, token_id: int | None) -> str:
    prediction_id = insert_prediction(conn)
    conn.execute("UPDATE predictions SET token_id = %s WHERE id = %s", (token_id, prediction_id))
    return prediction_id


def write_many(conn: Connection, urls: list[str], count: int, *, token_id: int | None) -> list[str]:
    prediction_id = prediction_of(conn, token_id)
    return [write(conn, urls[n % len(urls)], event="logs", prediction_id=prediction_id) for n in range(count)]


def test_another_tokens_webhook_arrives_while_hundreds_of_the_first_ones_hang(
    settings: Settings, conn: Connection, receiver: Receiver, hanging: list[str]
) -> None:
    held_up = write_many(conn, hanging, 400, token_id=HANGING)
    with running(settings):
        eventually(lambda: in_flight(conn) >= 4)
        for count in range(1, 11):
            delivery_id = write(conn, receiver.url, prediction_id=prediction_of(conn, OTHER))
            assert receiver.wait_for(count)[-1].headers["webhook-id"] == delivery_id
        # That it was fair is seen in what still waits, not by a clock: before, the others' came after all of these.
        waiting = [read(conn, delivery_id) for delivery_id in held_up]
        assert sum(row["status"] == "pending" and row["attempts"] == 0 for row in waiting) > 300


def test_without_tokens_a_receiver_that_answers_quickly_goes_on_beside_those_that_hang(
    settings: Settings, conn: Connection, receiver: Receiver, hanging: list[str]
) -> None:
    with running(settings):
        write(conn, receiver.url)
        receiver.wait_for(1)
        held_up = write_many(conn, hanging, 400, token_id=None)
        eventually(lambda: in_flight(conn) >= 4)
        write(conn, receiver.url)
        receiver.wait_for(2)
        assert sum(read(conn, delivery_id)["attempts"] == 0 for delivery_id in held_up) > 300


def test_a_receiver_that_hangs_for_one_token_answers_another_ones_webhook(
    settings: Settings, conn: Connection, receiver: Receiver
) -> None:
    receiver.answer = lambda request: Answer(delay_s=30 if request.path == "/slow" else 0)
    slow = receiver.url.replace("/hook", "/slow")
    with running(settings):
        write_many(conn, [slow], 50, token_id=HANGING)
        receiver.wait_for(4)
        delivery_id = write(conn, receiver.url, prediction_id=prediction_of(conn, OTHER))
        eventually(lambda: read(conn, delivery_id)["status"] == "delivered")


def in_flight(conn: Connection) -> int:
    row = conn.execute(
        "SELECT count(*) AS count FROM webhook_deliveries WHERE locked_until > clock_timestamp()"
    ).fetchone()
    assert row is not None
    count: int = row["count"]
    return count


def test_tokens_take_turns_by_what_they_have_in_flight_then_by_whose_turn_is_the_oldest(conn: Connection) -> None:
    of = {token: write_many(conn, ["http://h.example/"], 2, token_id=token or None) for token in (1, 2, 3, 0)}

    def claim(**openings: object) -> str:
        claimed = claim_next(conn, Openings(**openings), lock_for=LOCK_FOR)  # type: ignore[arg-type]
        assert claimed is not None
        conn.execute("UPDATE webhook_deliveries SET locked_until = NULL WHERE id = %s", (claimed.id,))
        return claimed.id

    assert claim() == of[1][0], "the oldest, where nothing else is known"
    assert claim(tokens=[1, 2, 3, 0], in_flight=[2, 1, 0, 1], turns=[1, 2, 3, 4]) == of[3][0]
    assert claim(tokens=[1, 2, 3, 0], in_flight=[1, 1, 1, 1], turns=[4, 3, 2, 1]) == of[0][0]
    assert claim(tokens=[1, 2, 3], in_flight=[0, 0, 0], turns=[1, 2, 3]) == of[0][0], "one that was never served"


def test_what_there_is_no_slot_for_is_passed_over(conn: Connection) -> None:
    blocked, free = "http://blocked.example/", "http://free.example/"
    first = write(conn, blocked, prediction_id=prediction_of(conn, 1))
    second = write(conn, free, prediction_id=prediction_of(conn, 1))
    for openings, expected in (
        (EVERYTHING_OPEN, first),
        (Openings(closed_hosts=["blocked.example"]), second),
        (Openings(closed_lanes=["1 blocked.example"]), second),
        (Openings(closed_lanes=["2 blocked.example"]), first),
        (Openings(listed_only=True, listed_lanes=["1 free.example"]), second),
        (Openings(listed_only_tokens=[1], listed_lanes=["1 free.example"]), second),
        (Openings(listed_only_tokens=[2]), first),
        (Openings(listed_only_tokens=[1]), None),
        (Openings(closed_tokens=[1]), None),
    ):
        claimed = claim_next(conn, openings, lock_for=LOCK_FOR)
        assert (claimed and claimed.id) == expected, openings
        conn.execute("UPDATE webhook_deliveries SET locked_until = NULL")


def test_a_claim_removes_the_bell_of_what_it_takes_and_no_other(conn: Connection) -> None:
    first, second = (write(conn, "http://h.example/") for _ in range(2))
    claimed = claim_next(conn, EVERYTHING_OPEN, lock_for=LOCK_FOR)
    assert claimed is not None
    assert claimed.id == first
    assert [job["delivery_id"] for job in jobs(conn)] == [second]


def test_several_couriers_claim_each_delivery_once(settings: Settings, conn: Connection) -> None:
    ids = write_many(conn, ["http://h.example/"], 120, token_id=1)
    claimed: list[str] = []

    def claim_all() -> None:
        with connect(settings.database_url, application_name="test") as own:
            while found := claim_next(own, EVERYTHING_OPEN, lock_for=LOCK_FOR):
                claimed.append(found.id)

    threads = [threading.Thread(target=claim_all) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(claimed) == sorted(ids)


def test_rescue_wakes_a_courier_with_a_few_jobs_however_much_is_due(conn: Connection) -> None:
    write_many(conn, ["http://h.example/"], 120, token_id=1)
    conn.execute("DELETE FROM procrastinate_jobs")
    conn.execute("UPDATE webhook_deliveries SET next_attempt_at = clock_timestamp() - interval '3 s'")
    assert deliveries.ring_overdue(conn) == deliveries.RING_AT_MOST
    assert len(jobs(conn)) == deliveries.RING_AT_MOST
