"""Leases on demand: however many hosts ask at the same time, each prediction gets one worker."""

from __future__ import annotations

import threading
from uuid import UUID, uuid4

from cli.host.demand.leases import DemandLeases
from storage.postgres.database import Connection, connect
from storage.settings import Settings
from storage.workers.demand_leases import give_back, lease_demand, renew_leases, workers_elsewhere
from tests.support.eventually import eventually
from tests.support.making import MODEL, count, submit_one

HERE, THERE = uuid4(), uuid4()
SIGN_IN = """
INSERT INTO workers (id, hostname, pid, model, state, seen_at)
VALUES (gen_random_uuid(), %s, %s, %s, %s, clock_timestamp() - make_interval(secs => %s))
"""


def test_of_many_hosts_that_ask_at_once_as_many_get_a_lease_as_predictions_wait(
    settings: Settings, conn: Connection
) -> None:
    for _ in range(3):
        submit_one(conn)
    granted: list[UUID | None] = []
    together = threading.Barrier(8)

    def ask() -> None:
        with connect(settings.database_url, application_name="test") as own:
            together.wait()
            granted.append(lease_demand(own, MODEL, uuid4()))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(granted) == 8
    assert len([lease for lease in granted if lease is not None]) == 3


def test_workers_count_wherever_they_are_unless_they_failed_drain_or_are_silent(conn: Connection) -> None:
    submit_one(conn)
    for pid, (state, silent_s) in enumerate([("failed", 0), ("draining", 0), ("idle", 60)]):
        conn.execute(SIGN_IN, ("elsewhere", pid, MODEL, state, silent_s))
    lease = lease_demand(conn, MODEL, HERE)
    assert lease is not None
    give_back(conn, [lease])
    conn.execute(SIGN_IN, ("elsewhere", 7, MODEL, "loading", 0))
    assert lease_demand(conn, MODEL, HERE) is None
    assert lease_demand(conn, "nobody/asked", HERE) is None


def test_a_lease_of_a_host_that_died_ends_by_itself_and_a_renewed_one_does_not(conn: Connection) -> None:
    submit_one(conn)
    lease = lease_demand(conn, MODEL, HERE)
    assert lease is not None
    conn.execute("UPDATE demand_leases SET expires_at = clock_timestamp() - interval '1 s'")
    renew_leases(conn, [lease])
    assert lease_demand(conn, MODEL, THERE) is None
    conn.execute("UPDATE demand_leases SET expires_at = clock_timestamp() - interval '1 s'")
    assert lease_demand(conn, MODEL, THERE) is not None
    assert count(conn, "demand_leases") == 1


def test_what_others_have_leaves_out_our_own_workers_and_leases(conn: Connection) -> None:
    for _ in range(4):
        submit_one(conn)
    for hostname, pid in (("here", 1), ("here", 2), ("there", 1)):
        conn.execute(SIGN_IN, (hostname, pid, MODEL, "drawing", 0))
    lease_demand(conn, MODEL, HERE)
    assert workers_elsewhere(conn, host=HERE, hostname="here", pids=[1]) == {MODEL: 2}
    assert workers_elsewhere(conn, host=THERE, hostname="there", pids=[1]) == {MODEL: 3}


def test_a_hosts_leases_are_granted_renewed_and_given_back_on_its_own_thread(
    settings: Settings, conn: Connection
) -> None:
    submit_one(conn)
    changed = threading.Event()
    leases = DemandLeases(settings.database_url, HERE, changed)
    leases.start()
    try:
        assert leases.take(MODEL) is None
        assert changed.wait(30)
        lease = leases.take(MODEL)
        assert lease is not None
        conn.execute("UPDATE demand_leases SET expires_at = clock_timestamp()")
        eventually(lambda: count(conn, "demand_leases", "expires_at > clock_timestamp() + interval '5 s'") == 1)
        leases.give_back(lease)
        eventually(lambda: count(conn, "demand_leases") == 0)
        leases.take(MODEL)
        eventually(lambda: count(conn, "demand_leases") == 1)
    finally:
        leases.stop()
    eventually(lambda: count(conn, "demand_leases") == 0)


def test_a_lease_that_is_not_fetched_is_given_back(settings: Settings, conn: Connection) -> None:
    submit_one(conn)
    leases = DemandLeases(settings.database_url, HERE, threading.Event())
    leases.start()
    try:
        assert leases.take(MODEL) is None
        eventually(lambda: count(conn, "demand_leases") == 1)
        conn.execute("UPDATE predictions SET status = 'canceled', completed_at = clock_timestamp()")
        eventually(lambda: count(conn, "demand_leases") == 0)
    finally:
        leases.stop()
