"""Many submit while many claim: every bell that is fetched belongs to a prediction that is claimed, with no rescue."""

from __future__ import annotations

import threading
import time
from uuid import uuid4

from storage.postgres.database import Connection, connect
from storage.predictions.claim import claim
from storage.predictions.render import Renderer
from storage.settings import Settings
from storage.workers.registry import register_bell_worker
from tests.support.making import QUEUE, claim_one, count, submit_one

SUBMITTERS, CLAIMERS = 4, 4
EACH = 150


def test_no_bell_is_lost_between_its_fetch_and_the_claim(settings: Settings, renderer: Renderer) -> None:
    """A statement that fetched and claimed at once would not see predictions that are newer than its snapshot."""
    claimed: list[str] = []
    done = threading.Event()
    errors: list[BaseException] = []

    def submit() -> None:
        with connect(settings.database_url, application_name="test") as conn:
            for _ in range(EACH):
                submit_one(conn)

    def work() -> None:
        try:
            with connect(settings.database_url, application_name="test") as conn:
                while True:
                    was_done = done.is_set()
                    found = claim_one(conn, renderer)
                    if found is not None:
                        claimed.append(found.prediction_id)
                    elif was_done:
                        return
        except BaseException as error:
            errors.append(error)

    submitters = [threading.Thread(target=submit) for _ in range(SUBMITTERS)]
    claimers = [threading.Thread(target=work) for _ in range(CLAIMERS)]
    for thread in claimers + submitters:
        thread.start()
    for thread in submitters:
        thread.join()
    done.set()
    for thread in claimers:
        thread.join()
    assert errors == []
    assert len(claimed) == len(set(claimed))
    with connect(settings.database_url, application_name="test") as conn:
        assert count(conn, "predictions", "status = 'starting'") == 0, "their bells were fetched and nobody claimed"
    assert len(claimed) == SUBMITTERS * EACH


def test_a_prediction_that_comes_while_a_claim_waits_is_claimed(settings: Settings, renderer: Renderer) -> None:
    """The same at the one moment that counts: the claim has begun, and then its prediction is committed."""
    claimed: list[str] = []
    registered = threading.Event()

    def work() -> None:
        with connect(settings.database_url, application_name="test") as conn:
            bell_worker_id = register_bell_worker(conn)
            registered.set()
            begin.wait()
            found = claim(
                conn, renderer, queue_name=QUEUE, worker_id=uuid4(), bell_worker_id=bell_worker_id, holds_others=False
            )
            claimed.extend([] if found is None else [found.prediction_id])

    begin = threading.Event()
    claimer = threading.Thread(target=work)
    with (
        connect(settings.database_url, application_name="test") as watching,
        connect(settings.database_url, application_name="test") as submitting,
    ):
        claimer.start()
        registered.wait()
        with submitting.transaction():
            submitting.execute("LOCK TABLE procrastinate_jobs IN EXCLUSIVE MODE")
            prediction = submit_one(submitting)
            begin.set()
            while count(watching, "pg_locks", "NOT granted AND relation = 'procrastinate_jobs'::regclass") == 0:
                assert claimer.is_alive()
                time.sleep(0.01)
        claimer.join()
    assert claimed == [prediction["id"]], "its bell was fetched and nobody claimed it"


def test_stale_bells_are_deleted_until_one_of_a_waiting_prediction_comes(conn: Connection, renderer: Renderer) -> None:
    for _ in range(210):  # more than one claim statement deletes
        submit_one(conn)
    conn.execute("UPDATE predictions SET status = 'canceled', completed_at = clock_timestamp()")
    waiting = submit_one(conn)
    found = claim_one(conn, renderer)
    assert found is not None
    assert found.prediction_id == waiting["id"]
    assert count(conn, "procrastinate_jobs") == 1
