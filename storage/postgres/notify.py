"""NOTIFY when a prediction changes, and the thread that LISTENs. `storage.postgres.listener` fans the news out."""

from __future__ import annotations

import json
import selectors
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg
import structlog
from psycopg import sql

from storage.backoff import Backoff
from storage.postgres.database import Connection, Row, connect

log = structlog.get_logger(__name__)

CHANNEL = "darkroom_events"
RESCUE_CHANNEL = "darkroom_rescue"  # a process was seen to die: rescue need not wait for its next turn
# {"id", "token_id"} of a new prediction, by a trigger (migrations/versions/0017). Hearing of every one costs an API
# process some 5 % of a submit, so a process listens only if it has to.
SUBMITTED_CHANNEL = "darkroom_submitted"
WORKERS_CHANNEL = "darkroom_workers"  # {"model", "state"}: a worker began or ended to load or to stand by
IDLE_CHANNEL = "darkroom_idle"  # the same of one that has drawn everything; only hosts listen
WARM_CHANNEL = "darkroom_warm"  # the name of a model: how many of its workers are to stay ready has changed

# SQL: what follows the names of our channels, since all schemas of a database share them. Nothing in `public`; in one
# of its own, a hash of its name, since a channel's name holds 63 bytes. The trigger of SUBMITTED_CHANNEL has it too.
HERE = "(CASE current_schema() WHEN 'public' THEN '' ELSE '_' || left(md5(current_schema()), 8) END)"

LOGS = "logs"  # what a change is `about` that is none of the prediction's state

RECONNECT_AFTER_S = 0.2
RECONNECT_AFTER_AT_MOST_S = 5.0
CHECK_EVERY_S = 0.5  # a dead connection is found so soon, also when nothing is ever notified


def notify(conn: Connection, prediction: Row, *, about: str | None = None) -> None:
    """Tell that a prediction has changed; sent when the caller's transaction commits."""
    event = {"id": prediction["id"], "status": prediction["status"], "token_id": prediction["token_id"]}
    if about is not None:
        event["about"] = about
    conn.execute(f"SELECT pg_notify(%s || {HERE}, %s)", (CHANNEL, json.dumps(event)))


def notify_all(conn: Connection, events: Sequence[Mapping[str, Any]]) -> None:
    """Tell of things that are written nowhere: steps that were taken, previews. Each under 8,000 bytes as JSON."""
    conn.execute(
        f"SELECT pg_notify(%s || {HERE}, payload) FROM unnest(%s::text[]) AS payload",  # noqa: S608 (a constant)
        (CHANNEL, [json.dumps(event, separators=(",", ":")) for event in events]),
    )


def listen(conn: Connection, channels: Sequence[str]) -> dict[str, str]:
    """LISTEN to these; ours as they are called in this schema. Returns {what Postgres calls it: what we call it}."""
    row = conn.execute(f"SELECT {HERE} AS suffix").fetchone()
    assert row is not None
    names = {f"{name}{row['suffix']}" if name.startswith("darkroom_") else name: name for name in channels}
    for name in names:
        conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(name)))
    return names


class Listener:
    """A thread that listens on channels, for as long as the process lives.

    `on_notify(channel, payload)` runs on that thread. `on_connect()` runs after every (re)connection: whatever was
    notified while nobody listened is lost, so whoever relies on notifications reads the rows again then.
    """

    def __init__(
        self,
        url: str,
        channels: Sequence[str],
        *,
        name: str,
        on_notify: Callable[[str, str], None],
        on_connect: Callable[[], None],
    ) -> None:
        self._url = url
        self._channels = channels
        self._name = name
        self._on_notify = on_notify
        self._on_connect = on_connect
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"{name}-listener", daemon=True)
        self._wake: socket.socket | None = None  # what is sent here ends the thread's wait
        self._woken: socket.socket | None = None
        self.connected = threading.Event()

    def start(self) -> None:
        self._wake, self._woken = socket.socketpair()
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; returns when the connection is closed."""
        self._stopping.set()
        if self._wake is None or self._woken is None:
            return
        if self._thread.is_alive():
            self._wake.send(b"!")
            self._thread.join(timeout=RECONNECT_AFTER_AT_MOST_S)
        if not self._thread.is_alive():
            self._wake.close()
            self._woken.close()

    def _run(self) -> None:
        backoff = Backoff(RECONNECT_AFTER_S, at_most_s=RECONNECT_AFTER_AT_MOST_S)
        while not self._stopping.is_set():
            try:
                with connect(self._url, application_name=f"darkroom {self._name} listener") as conn:
                    names = listen(conn, self._channels)
                    backoff.reset()
                    self.connected.set()
                    self._on_connect()
                    self._listen(conn, names)
            except psycopg.Error as error:
                log.warning("listener.disconnected", listener=self._name, reason=str(error).strip())
            finally:
                self.connected.clear()
            self._stopping.wait(backoff.next_s())

    def _listen(self, conn: Connection, names: Mapping[str, str]) -> None:
        assert self._woken is not None
        with selectors.DefaultSelector() as selector:
            selector.register(conn, selectors.EVENT_READ)
            selector.register(self._woken, selectors.EVENT_READ)
            while not self._stopping.is_set():
                for notification in conn.notifies(timeout=0):  # also those that came with an answer
                    self._on_notify(names[notification.channel], notification.payload)
                if not selector.select(CHECK_EVERY_S):
                    conn.execute("SELECT 1")
