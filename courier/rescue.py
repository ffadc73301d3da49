"""The courier's thread that takes work back from dead workers, every second.

A process that sees a worker die (such as `darkroom up`) wakes it at once. It has a connection of its own, past any
pooler, and relies on nothing else: not on the queue, NOTIFY or the courier's other threads.
"""

import threading
import time
from datetime import timedelta

import psycopg
import structlog

from storage.backoff import Backoff
from storage.postgres.database import Connection, connect
from storage.postgres.notify import RESCUE_CHANNEL, listen
from storage.predictions.render import open_renderer
from storage.predictions.rescue import rescue_once
from storage.settings import Settings
from storage.webhooks import outbox as deliveries
from storage.workers.load_failures import LoadPatience

log = structlog.get_logger(__name__)

RESCUE_EVERY_S = 1.0

# After this connection was made or lost, or the disk was full, healthy workers could not renew either: they go first.
EXPIRE_NOTHING_FOR_S = 10.0

# What reads a whole backlog (lost bells, overdue deliveries) is asked for every so many turns.
BACKLOG_EVERY_TURNS = 5

LOOK_WHETHER_TO_STOP_EVERY_S = 0.2
RECONNECT_AFTER_S = 0.25
MAX_RECONNECT_AFTER_S = 5.0
STATEMENT_TIMEOUT = "30s"


def keep_rescuing(settings: Settings, stop: threading.Event) -> None:
    """Rescue every second until `stop` is set, through any failure of the database."""
    backoff = Backoff(RECONNECT_AFTER_S, at_most_s=MAX_RECONNECT_AFTER_S)
    while not stop.is_set():
        connected_at = time.monotonic()
        try:
            with connect(settings.direct_url, application_name="darkroom-rescue") as conn:
                conn.execute(f"SET statement_timeout = '{STATEMENT_TIMEOUT}'")
                listen(conn, [RESCUE_CHANNEL])
                _rescue_while_connected(conn, settings, stop)
        except Exception as error:
            if isinstance(error, psycopg.OperationalError):
                log.warning("rescue has no database", error=" ".join(str(error).split()))
            else:
                log.exception("rescue broke")
            if time.monotonic() - connected_at > MAX_RECONNECT_AFTER_S * 2:
                backoff.reset()
            stop.wait(backoff.next_s())


def _rescue_while_connected(conn: Connection, settings: Settings, stop: threading.Event) -> None:
    renderer = open_renderer(settings, conn)
    patience = LoadPatience(settings.model_load_tries, timedelta(seconds=settings.model_load_timeout_s))
    connected_at = time.monotonic()
    turn = 0
    while not stop.is_set():
        started_at = time.monotonic()
        checks_backlog = turn % BACKLOG_EVERY_TURNS == 0
        expire = started_at - connected_at >= EXPIRE_NOTHING_FOR_S
        try:
            report = rescue_once(conn, renderer, expire=expire, check_bells=checks_backlog, patience=patience)
            if report.out_of_space:
                connected_at = time.monotonic()
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
        _wait(conn, stop, until=started_at + RESCUE_EVERY_S)


def _wait(conn: Connection, stop: threading.Event, *, until: float) -> None:
    """Until that moment of `time.monotonic`, or until somebody was seen to die, or `stop` is set."""
    while not stop.is_set() and (left_s := until - time.monotonic()) > 0:
        for _ in conn.notifies(timeout=min(left_s, LOOK_WHETHER_TO_STOP_EVERY_S), stop_after=1):
            return


def _go_on_if_still_connected(conn: Connection, what: str) -> None:
    """One row that can't be moved must not start the grace after a reconnect again in each turn."""
    if conn.closed:
        raise
    log.exception("rescue met an error and goes on", during=what)
