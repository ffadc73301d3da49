"""The courier's thread that sees, every second, that nothing waits for somebody who is gone.

It has a connection of its own, past any pooler, and trusts nobody: not the queue, not NOTIFY, not the worker
that runs beside it.
"""

import threading
import time

import psycopg
import structlog

from storage import deliveries
from storage.database import Connection, connect
from storage.rescue import rescue_once
from storage.settings import Settings
from storage.wire import open_wire

log = structlog.get_logger(__name__)

RESCUE_EVERY_S = 1.0

# After this connection was made or lost, healthy workers may have lost theirs too: they renew first.
EXPIRE_NOTHING_FOR_S = 10.0

# What reads a whole backlog (lost bells, overdue deliveries) is asked for every so many turns.
BACKLOG_EVERY_TURNS = 5

MAX_RECONNECT_AFTER_S = 5.0
STATEMENT_TIMEOUT = "30s"


def keep_rescuing(settings: Settings, stop: threading.Event) -> None:
    """Rescue every second until `stop` is set, through any failure of the database."""
    failures = 0
    while not stop.is_set():
        connected_at = time.monotonic()
        try:
            with connect(settings.direct_url, application_name="darkroom-rescue") as conn:
                conn.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'")
                _rescue_while_connected(conn, settings, stop)
        except Exception as error:
            if isinstance(error, psycopg.OperationalError):
                log.warning("rescue has no database", error=" ".join(str(error).split()))
            else:
                log.exception("rescue broke")
            failures = 0 if time.monotonic() - connected_at > MAX_RECONNECT_AFTER_S * 2 else failures + 1
            stop.wait(min(0.25 * 2**failures, MAX_RECONNECT_AFTER_S))


def _rescue_while_connected(conn: Connection, settings: Settings, stop: threading.Event) -> None:
    wire = open_wire(settings, conn)
    connected_at = time.monotonic()
    turn = 0
    while not stop.is_set():
        started_at = time.monotonic()
        checks_backlog = turn % BACKLOG_EVERY_TURNS == 0
        expire = started_at - connected_at >= EXPIRE_NOTHING_FOR_S
        try:
            report = rescue_once(conn, wire, expire=expire, check_bells=checks_backlog)
            if report:
                log.info("rescued", report=report)
        except psycopg.Error:
            _go_on_if_still_connected(conn, "rescue")
        try:
            if checks_backlog and (rung := deliveries.ring_overdue(conn)):
                log.info("rang overdue deliveries", count=rung)
        except psycopg.Error:
            _go_on_if_still_connected(conn, "ring_overdue")
        turn += 1
        stop.wait(max(0.0, RESCUE_EVERY_S - (time.monotonic() - started_at)))


def _go_on_if_still_connected(conn: Connection, what: str) -> None:
    """One row that can't be moved must not start the grace after a reconnect anew, turn after turn."""
    if conn.closed:
        raise
    log.exception("rescue met an error and goes on", during=what)
