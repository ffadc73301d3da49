"""Postgres: reachable, new enough, in UTF-8, writable, at this schema, with notifications, and on time."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg
from psycopg import sql

from cli.doctor.finding import Finding, broken, first_line, warning, well
from storage.errors import DarkroomError
from storage.operator.status import COURIERS
from storage.operator.totals import read_pending_webhooks
from storage.postgres import schema_revision
from storage.postgres.database import Connection, connect
from storage.settings import Settings

PART = "database"
OLDEST = 150_000  # the number of Postgres 15.0
NOTICED_WITHIN_S = 5.0
LARGEST_DIFFERENCE_S = 2.0  # of clocks; signed links and webhooks carry ours, leases the database's
LATE_S = 60.0


def check_database(settings: Settings) -> Iterator[Finding]:
    try:
        conn = connect(settings.database_url, application_name="darkroom doctor", target_session_attrs="any")
    except (psycopg.Error, OSError, DarkroomError) as error:
        yield broken(PART, f"can't be reached: {first_line(error)}", "check DATABASE_URL, and that Postgres runs")
        return
    with conn:
        yield _version(conn)
        yield from _encoding(conn)
        writable = _writable(conn)
        yield writable
        yield _clock(conn)
        yield _connections(conn)
        schema = _schema(settings)
        yield schema
        yield _notifications(conn, settings)
        if schema.level == "ok":
            yield from _courier(conn)


def _version(conn: Connection) -> Finding:
    number, name = conn.info.server_version, conn.info.parameter_status("server_version")
    if number < OLDEST:
        return broken(PART, f"is Postgres {name}", "upgrade it to 15 or later")
    return well(PART, f"Postgres {name} answers")


def _encoding(conn: Connection) -> Iterator[Finding]:
    encoding = conn.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        yield broken(
            PART,
            f"{conn.info.dbname} stores text as {encoding}, which can't hold every prompt",
            "create another one: CREATE DATABASE darkroom ENCODING 'UTF8' TEMPLATE template0",
        )


def _writable(conn: Connection) -> Finding:
    row = conn.execute(
        "SELECT pg_is_in_recovery() AS is_standby, current_setting('transaction_read_only') = 'on' AS is_read_only"
    ).fetchone()
    assert row is not None
    if row["is_standby"]:
        return broken(PART, "is a standby: nothing can be written", "name the primary in DATABASE_URL")
    if row["is_read_only"]:
        return broken(
            PART,
            "is read-only: nothing can be written",
            "look at default_transaction_read_only, and whether the provider has locked it because its disk is full",
        )
    return well(PART, "can be written")


def _clock(conn: Connection) -> Finding:
    row = conn.execute("SELECT clock_timestamp() AS now").fetchone()
    assert row is not None
    difference_s = (datetime.now(UTC) - row["now"]).total_seconds()
    if abs(difference_s) > LARGEST_DIFFERENCE_S:
        return warning(
            PART,
            f"its clock and ours differ by {difference_s:.0f} s: signed links and webhooks carry a wrong time",
            "let both machines synchronize their clocks (NTP)",
        )
    return well(PART, "its clock agrees with this machine's")


def _connections(conn: Connection) -> Finding:
    row = conn.execute(
        "SELECT current_setting('max_connections')::int AS most, (SELECT count(*) FROM pg_stat_activity"
        " WHERE backend_type = 'client backend') AS used"
    ).fetchone()
    assert row is not None
    text = f"{row['used']} of {row['most']} connections are used"
    if row["used"] > 0.9 * row["most"]:
        return warning(PART, text, "raise max_connections, or lower DATABASE_POOL_SIZE of the API")
    return well(PART, text)


def _schema(settings: Settings) -> Finding:
    try:
        schema_revision.check(settings)
    except DarkroomError as error:
        return broken(PART, first_line(error), "run `darkroom migrate` with this release, or upgrade this release")
    except Exception as error:  # psycopg's own, for example without the right to read
        return broken(PART, f"its schema can't be read: {first_line(error)}", "check the rights of the database user")
    return well(PART, "has this release's schema")


def _notifications(conn: Connection, settings: Settings) -> Finding:
    """A NOTIFY through DATABASE_URL has to arrive at a LISTEN on the direct connection."""
    remedy = "behind a pooler, set DATABASE_DIRECT_URL to Postgres itself (or a session-mode port)"
    channel = f"darkroom_doctor_{secrets.token_hex(6)}"
    try:
        with connect(settings.direct_url, application_name="darkroom doctor") as listening:
            listening.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            began = time.monotonic()
            conn.execute("SELECT pg_notify(%s, 'hello')", (channel,))
            for _ in listening.notifies(timeout=NOTICED_WITHIN_S, stop_after=1):
                return well(PART, f"a notification arrives after {1000 * (time.monotonic() - began):.0f} ms")
    except (psycopg.Error, OSError, DarkroomError) as error:
        return broken(PART, f"the direct connection fails: {first_line(error)}", remedy)
    return broken(PART, "notifications (LISTEN) don't arrive: workers and streams wait for nothing", remedy)


def _courier(conn: Connection) -> Iterator[Finding]:
    row = conn.execute(COURIERS).fetchone()
    assert row is not None
    waiting = read_pending_webhooks(conn)
    if row["n"] == 0:
        yield broken(
            "courier",
            "none runs: no webhook is sent, no dead worker is noticed, nothing old is removed",
            "start `darkroom courier`; one is enough, and it is always on",
        )
    elif waiting["overdue_s"] > LATE_S:
        yield warning(
            "courier",
            f"webhooks are {waiting['overdue_s']:.0f} s late ({waiting['pending']} wait)",
            "see `darkroom webhooks list`; raise WEBHOOK_CONCURRENCY or run a second courier",
        )
    else:
        yield well("courier", f"runs; {waiting['pending']} webhooks wait")
