"""One prediction that can't be moved costs rescue that prediction, and nothing else."""

from __future__ import annotations

from datetime import timedelta

import psycopg
import pytest

from storage.postgres.database import Connection, connect
from storage.predictions import rescue
from storage.predictions.render import Renderer
from storage.predictions.rescue import rescue_once
from storage.settings import Settings
from tests.support.making import claim_one, count, expire_lease, submit_one


def make_immovable(conn: Connection, *prediction_ids: str) -> None:
    """Any change of their state fails, as a bug or a broken row would have it."""
    ids = ", ".join(f"'{each}'" for each in prediction_ids)
    conn.execute(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'immovable'; END $$;
        CREATE TRIGGER refuse BEFORE UPDATE OF status ON predictions
            FOR EACH ROW WHEN (OLD.id IN ({ids})) EXECUTE FUNCTION refuse();
        """
    )


def test_an_immovable_prediction_does_not_keep_the_others_from_being_rescued(
    conn: Connection, renderer: Renderer
) -> None:
    ids = []
    for _ in range(2):
        ids.append(submit_one(conn)["id"])
        assert claim_one(conn, renderer) is not None
    for prediction_id in ids:
        expire_lease(conn, prediction_id)
    late = submit_one(conn, deadline_s=-1.0)["id"]
    silent = submit_one(conn)
    conn.execute("DELETE FROM procrastinate_jobs WHERE id = %s", (silent["queue_job_id"],))
    make_immovable(conn, ids[0])

    report = rescue_once(conn, renderer, expire=True)
    assert report.broken == 1
    assert report.expired_leases == 1
    assert report.passed_deadlines == 1
    assert report.lost_bells == 1
    assert count(conn, "predictions", f"id = '{ids[1]}' AND status = 'starting'") == 1
    assert count(conn, "predictions", f"id = '{late}' AND status = 'canceled'") == 1


def test_an_immovable_deadline_does_not_either(conn: Connection, renderer: Renderer) -> None:
    first, second = (submit_one(conn, deadline_s=-1.0)["id"] for _ in range(2))
    make_immovable(conn, first)
    report = rescue_once(conn, renderer, expire=True)
    assert (report.broken, report.passed_deadlines) == (1, 1)
    assert count(conn, "predictions", f"id = '{second}' AND status = 'canceled'") == 1


def test_more_immovable_ones_than_fit_into_a_batch_starve_nobody(
    conn: Connection, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "BATCH", 3)
    leases = []
    for _ in range(8):
        leases.append(submit_one(conn)["id"])
        assert claim_one(conn, renderer) is not None
    for prediction_id in leases:
        expire_lease(conn, prediction_id)
    deadlines = [submit_one(conn, deadline_s=-1.0)["id"] for _ in range(8)]
    make_immovable(conn, *leases[:7], *deadlines[:7])

    report = rescue_once(conn, renderer, expire=True)
    assert (report.broken, report.expired_leases, report.passed_deadlines) == (14, 1, 1)
    assert count(conn, "predictions", f"id = '{leases[7]}' AND status = 'starting'") == 1
    assert count(conn, "predictions", f"id = '{deadlines[7]}' AND status = 'canceled'") == 1


def test_ones_that_others_hold_starve_nobody_either(
    settings: Settings, conn: Connection, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rescue, "BATCH", 3)
    rows = [submit_one(conn) for _ in range(8)]
    conn.execute("DELETE FROM procrastinate_jobs")
    with connect(settings.database_url, application_name="test") as other, other.transaction():
        held = [row["id"] for row in rows[:7]]
        other.execute("SELECT FROM predictions WHERE id = ANY(%s) FOR UPDATE", (held,))
        assert rescue_once(conn, renderer, expire=True).lost_bells == 1
    assert rescue_once(conn, renderer, expire=True).lost_bells == 3, "no more than a batch at once"
    assert rescue_once(conn, renderer, expire=True).lost_bells == 3
    assert rescue_once(conn, renderer, expire=True).lost_bells == 1


def test_a_lost_connection_is_not_taken_for_a_broken_prediction(settings: Settings, renderer: Renderer) -> None:
    with connect(settings.database_url, application_name="test") as conn:
        submit_one(conn, deadline_s=-1.0)
        with connect(settings.database_url, application_name="test") as other:
            other.execute("SELECT pg_terminate_backend(%s)", (conn.info.backend_pid,))
        with pytest.raises(psycopg.OperationalError):
            rescue_once(conn, renderer, expire=True)


def test_a_full_disk_is_noticed_before_a_lease_is_over_and_takes_nothing_from_a_healthy_worker(
    conn: Connection, renderer: Renderer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its worker could not renew either. Leases are then left alone for a while, as after a reconnect."""
    # Longer than any machine is busy for, so that the lease is about to expire, and doesn't, while this test runs.
    monkeypatch.setattr(rescue, "RENEWAL_IS_OVERDUE", timedelta(minutes=10))
    submit_one(conn)
    assert claim_one(conn, renderer) is not None
    conn.execute("UPDATE predictions SET lease_expires_at = clock_timestamp() + interval '1 hour'")
    conn.execute(
        """
        CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$;
        CREATE TRIGGER no_space BEFORE UPDATE ON predictions FOR EACH ROW EXECUTE FUNCTION no_space();
        """
    )
    assert not rescue_once(conn, renderer, expire=False).out_of_space, "a lease with time left is not touched"
    conn.execute("ALTER TABLE predictions DISABLE TRIGGER no_space")
    conn.execute("UPDATE predictions SET lease_expires_at = clock_timestamp() + interval '5 minutes'")
    conn.execute("ALTER TABLE predictions ENABLE TRIGGER no_space")
    assert rescue_once(conn, renderer, expire=False).out_of_space, "also in the grace after a reconnect"

    conn.execute("ALTER TABLE predictions DISABLE TRIGGER no_space")
    assert not rescue_once(conn, renderer, expire=True), "touching it changes nothing"
    conn.execute("UPDATE predictions SET lease_expires_at = clock_timestamp() - interval '1 second'")
    conn.execute("ALTER TABLE predictions ENABLE TRIGGER no_space")
    report = rescue_once(conn, renderer, expire=True)
    assert (report.out_of_space, report.expired_leases, report.broken) == (True, 0, 1)
