"""KEDA's query on the real database: the number of workers' worth of work, in every state of a prediction."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from storage.postgres.database import Connection
from storage.predictions.bell import ring_again
from storage.predictions.claim import hand_back
from storage.predictions.finish import Canceled, finish
from storage.predictions.render import Renderer
from storage.predictions.rescue import rescue_once
from storage.settings import Settings
from tests.deploy.manifests import trigger_query
from tests.support.making import QUEUE, claim_one, expire_lease, submit_one, succeeded

QUERY = trigger_query("worker/scaled-object.yaml", queue_name=QUEUE)
Count = Callable[[], int]


@pytest.fixture
def count(settings: Settings, conn: Connection) -> Iterator[Count]:
    """Asks as KEDA does: on a connection of its own, with a role that may read one table (see docs/deploy.md)."""
    role = sql.Identifier(f"keda_{secrets.token_hex(6)}")
    conn.execute(sql.SQL("CREATE ROLE {} LOGIN").format(role))
    conn.execute(sql.SQL("GRANT SELECT ON procrastinate_jobs TO {}").format(role))
    with psycopg.connect(settings.database_url, autocommit=True) as keda:
        keda.execute(sql.SQL("SET ROLE {}").format(role))

        def ask() -> int:
            row = keda.execute(QUERY).fetchone()
            assert row is not None
            (number,) = row
            assert isinstance(number, int)
            return number

        yield ask
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            keda.execute("SELECT count(*) FROM predictions")
    conn.execute(sql.SQL("DROP OWNED BY {}").format(role))
    conn.execute(sql.SQL("DROP ROLE {}").format(role))


def test_both_variants_ask_the_same() -> None:
    assert trigger_query("worker-job/scaled-job.yaml", queue_name=QUEUE) == QUERY


def test_it_counts_nothing_where_nothing_waits(count: Count) -> None:
    assert count() == 0


def test_it_counts_what_waits_in_its_own_queue_only(conn: Connection, count: Count) -> None:
    submit_one(conn)
    submit_one(conn)
    submit_one(conn, queue_name="draw-another.model")
    assert count() == 2


def test_it_counts_what_is_drawn_until_it_is_done_and_not_its_webhook(
    conn: Connection, renderer: Renderer, count: Count
) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert count() == 1
    assert finish(conn, renderer, claimed.prediction_id, succeeded(claimed), claim_id=claimed.claim_id) is not None
    assert count() == 0


def test_it_forgets_what_is_canceled_while_it_waits_or_is_drawn(
    conn: Connection, renderer: Renderer, count: Count
) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    waiting = submit_one(conn)
    assert count() == 2
    finish(conn, renderer, waiting["id"], Canceled())
    assert count() == 1
    finish(conn, renderer, claimed.prediction_id, Canceled())
    assert count() == 0


def test_it_counts_a_retry_from_the_moment_that_it_is_due(conn: Connection, count: Count) -> None:
    prediction = submit_one(conn)
    conn.execute(
        "UPDATE procrastinate_jobs SET scheduled_at = now() + interval '1 hour' WHERE id = %s",
        (prediction["queue_job_id"],),
    )
    assert count() == 0
    conn.execute(
        "UPDATE procrastinate_jobs SET scheduled_at = now() - interval '1 second' WHERE id = %s",
        (prediction["queue_job_id"],),
    )
    assert count() == 1


def test_it_counts_the_work_of_a_dead_worker_before_and_after_rescue(
    conn: Connection, renderer: Renderer, count: Count
) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    expire_lease(conn, claimed.prediction_id)
    assert count() == 1  # its bell is still `doing`: KEDA keeps or starts a worker, which is right
    assert rescue_once(conn, renderer, expire=True).expired_leases == 1
    assert count() == 1
    assert claim_one(conn, renderer) is not None
    assert count() == 1


def test_it_still_counts_it_when_the_dead_worker_was_pruned_from_the_queues_own_table(
    conn: Connection, renderer: Renderer, count: Count
) -> None:
    submit_one(conn)
    assert claim_one(conn, renderer) is not None
    conn.execute("DELETE FROM procrastinate_workers")
    assert count() == 1


def test_it_forgets_what_has_killed_its_workers_too_often(conn: Connection, renderer: Renderer, count: Count) -> None:
    submit_one(conn)
    for _ in range(3):
        claimed = claim_one(conn, renderer)
        assert claimed is not None
        expire_lease(conn, claimed.prediction_id)
        rescue_once(conn, renderer, expire=True)
    assert count() == 0


def test_it_counts_what_was_handed_back(conn: Connection, renderer: Renderer, count: Count) -> None:
    submit_one(conn)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert hand_back(conn, renderer, claimed.prediction_id, claimed.claim_id)
    assert count() == 1


def test_it_counts_a_lost_bell_once_rescue_has_rung_it_again(
    conn: Connection, renderer: Renderer, count: Count
) -> None:
    prediction = submit_one(conn)
    conn.execute("DELETE FROM procrastinate_jobs")
    assert count() == 0
    with conn.transaction():
        ring_again(conn, prediction)
    assert count() == 1
