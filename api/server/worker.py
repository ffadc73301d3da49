"""The loop that serves all connections of the API's process: a worker of gunicorn.

Only the loop's thread reads from a connection. When a whole request has arrived, a thread of `api/server/threads.py`
answers it; what the client doesn't take at once is left to the loop. So no client can hold a thread, however slow it
is, except for the streams that it may open.
"""

from __future__ import annotations

import errno
import heapq
import math
import os
import resource
import selectors
import socket
import struct
import time
from collections import Counter
from contextlib import suppress
from functools import partial
from typing import Any

import structlog
from gunicorn.http import wsgi
from gunicorn.workers.base import Worker
from gunicorn.workers.gthread import PollableMethodQueue

from api.server.addresses import ConnectionsByAddress, parse_networks
from api.server.connection import Connection, Phase
from api.server.limits import Limits
from api.server.malloc import give_large_blocks_back
from api.server.request.head import owner_of
from api.server.request.incoming import Incoming
from api.server.request.uploads import asking, authorization_of
from api.server.response.buffered import Buffered
from api.server.response.outgoing import Outgoing
from api.server.response.refusal import Refusal
from api.server.response.reply import Reply
from api.server.threads import RequestThreads
from api.settings import ApiSettings
from api.slots import Slots

log = structlog.get_logger(__name__)

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE

# How often connections that are over their time are looked for.
LOOK_EVERY_S = 1.0
TELL_EVERY_S = 10.0
# New connections of one turn: those that exist have their turn, too.
ACCEPT_AT_ONCE = 64
# After its answer, a client may take so long to close its side. Closing first could destroy the answer on its way.
LINGER_S = 2.0
LINGER_READ_BYTES = 64 * 1024
# A stopping process keeps idle connections so long, for the request that may be on its way.
STOP_KEEPALIVE_S = 2.0
KERNEL_UNSENT_BYTES = 128 * 1024
# Files of this process that are no connections of clients: Postgres, S3, temporary files.
OTHER_FILES = 512
# Where there is too much, this part is given up at once.
SHED_PART = 0.1
SHED_EVERY_S = 0.05
# A client that reads as fast as it can needs a moment for a large answer.
FRESH_ANSWER_S = 1.0


class ApiWorker(Worker):  # type: ignore[misc] # gunicorn has no types
    """Gunicorn starts one in each of its processes, and calls `init_process`, which returns when it has stopped."""

    alive: bool

    def init_process(self) -> None:
        give_large_blocks_back()
        settings = ApiSettings()
        self._limits = Limits.of(settings)
        self._threads = RequestThreads(settings.api_busy_threads, settings.api_threads)
        self._addresses = ConnectionsByAddress(
            settings.api_max_connections_per_address, parse_networks(settings.proxy_addresses)
        )
        self._max_connections = _possible_connections(settings.api_max_connections)
        self._buffered = Buffered(settings.api_max_buffered_bytes)
        self._uploads: Slots[str] = Slots(settings.api_max_uploads)
        self._connections: set[Connection] = set()
        self._look_at = self._tell_at = self._shed_again_at = 0.0
        self._sent_away: Counter[str] = Counter()
        self._poller = selectors.DefaultSelector()
        self._calls = PollableMethodQueue()
        self._calls.init()
        super().init_process()

    # What gunicorn calls on signals.

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGTERM: stop, but let answers end."""
        if self.alive:
            self.alive = False
            self._calls.defer(_wake_up)

    def handle_quit(self, sig: int, frame: Any) -> None:
        """SIGQUIT and SIGINT: stop at once."""
        self._threads.shutdown(wait=False)
        super().handle_quit(sig, frame)

    # The loop.

    def run(self) -> None:
        self._poller.register(self._calls.fileno(), READ, lambda _: self._calls.run_callbacks(None))
        for listener in self.sockets:
            listener.setblocking(False)
            _keep_unsent_bytes_here(listener)
            self._poller.register(listener, READ, partial(self._accept, listener))
        while self.alive:
            self.notify()
            self._turn(LOOK_EVERY_S)
            if self.ppid != os.getppid():
                self.log.info("The parent process is gone: stopping")
                break
        self._stop()

    def _turn(self, timeout_s: float) -> None:
        """Serve what has happened, or wait for something to happen."""
        for key, events in self._poller.select(timeout_s):
            key.data(events)
        now = time.monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._end_late_ones(now)
            self._tell_who_was_sent_away(now)

    def _stop(self) -> None:
        """Accept no new connections, and finish running responses within the grace period."""
        for listener in self.sockets:
            self._poller.unregister(listener)
        now = time.monotonic()
        for connection in self._connections:
            if connection.phase is Phase.READING and connection.incoming.is_empty:
                connection.deadline = min(connection.deadline, now + STOP_KEEPALIVE_S)
        give_up_at = now + self.cfg.graceful_timeout
        while self._connections and time.monotonic() < give_up_at:
            self.notify()
            self._look_at = 0.0
            self._turn(0.2)
        for connection in [each for each in self._connections if each.phase is not Phase.ANSWERING]:
            self._close(connection)
        self._threads.shutdown(wait=False)
        self._poller.close()
        self._calls.close()
        for listener in self.sockets:
            listener.close()

    # Connections begin.

    def _accept(self, listener: Any, _: int) -> None:
        for _number in range(ACCEPT_AT_ONCE):
            try:
                accepted, client = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM):
                    self._shed_connections()
                elif error.errno != errno.ECONNABORTED:
                    raise
                return
            self._begin(accepted, client, listener.getsockname())

    def _begin(self, accepted: socket.socket, client: Any, server: Any) -> None:
        accepted.setblocking(True)  # threads wait for their client; the loop says each time that it doesn't
        address = self._addresses.take(client)
        if address is None:
            self._turn_away(accepted, "address has too many connections", 429, "your address has too many connections")
            return
        if len(self._connections) >= self._max_connections:
            self._shed_connections()
            if len(self._connections) >= self._max_connections:
                self._addresses.give_back(address)
                self._turn_away(accepted, "too many connections", 503, "the server has too many connections: try again")
                return
        incoming = Incoming(self.cfg, self._limits, client)
        connection = Connection(
            accepted, client, server, address, incoming, Outgoing(accepted, self._limits, self._buffered)
        )
        connection.since = time.monotonic()
        connection.deadline = connection.since + self._limits.header_s
        self._connections.add(connection)
        self._on_event(connection, READ)  # the request has mostly come with the connection
        if connection.phase is Phase.READING:
            self._poll(connection, READ)

    def _turn_away(self, accepted: socket.socket, reason: str, status: int, detail: str) -> None:
        """Close a connection that can't be served, with an error response if it can be sent."""
        self._sent_away[reason] += 1
        with suppress(OSError):
            accepted.send(Refusal(status, detail).render(), socket.MSG_DONTWAIT)
        accepted.close()

    # Connections go on.

    def _on_event(self, connection: Connection, events: int) -> None:
        try:
            match connection.phase:
                case Phase.READING:
                    self._read(connection)
                case Phase.ANSWERING:
                    self._poll(connection, 0)  # what comes now waits in the kernel
                case Phase.SENDING:
                    if connection.outgoing.send_some():
                        self._after_answer(connection)
                case Phase.LINGERING:
                    if not connection.socket.recv(LINGER_READ_BYTES, socket.MSG_DONTWAIT):
                        self._close(connection)
                case Phase.CLOSED:
                    pass  # by what happened in the same turn
        except BlockingIOError:
            pass
        except OSError:  # the client is gone
            self._close(connection)
        except Exception:
            log.exception("api.server_broke")
            self._close(connection)

    def _read(self, connection: Connection) -> None:
        data = connection.socket.recv(connection.incoming.read_bytes, socket.MSG_DONTWAIT)
        if data:
            self._take(connection, data)
        else:
            self._close(connection)

    def _take(self, connection: Connection, data: bytes) -> None:
        """Something arrived: answer the request that is complete with it."""
        incoming, now = connection.incoming, time.monotonic()
        if incoming.is_empty or not data:
            connection.since, connection.deadline = now, now + self._limits.header_s
        had_head = incoming.has_head
        try:
            request = incoming.feed(data)
        except Refusal as refusal:
            self._refuse(connection, refusal)
            return
        except OSError as error:
            log.error("api.body_not_stored", reason=error.strerror)
            self._refuse(connection, Refusal(503, "the body could not be stored here: try again later"))
            return
        if request is not None:
            connection.phase, connection.deadline = Phase.ANSWERING, math.inf
            self._count(connection)
            self._threads.submit_for(owner_of(request, connection.client), self._serve, connection, request)
            return
        if incoming.asks_for_room is not None:
            self._ask_for_room(connection, incoming.asks_for_room)
            return
        if incoming.has_head:
            if not had_head:
                connection.since = now
            connection.deadline = connection.since + self._limits.to_receive_s(incoming.expected_bytes)
            if incoming.wants_continue():
                connection.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n", socket.MSG_DONTWAIT)
        self._count(connection)

    def _ask_for_room(self, connection: Connection, request: Any) -> None:
        """Let a thread ask the application whether the body may be large; what comes now waits in the kernel."""
        connection.phase = Phase.ASKING
        self._poll(connection, 0)
        self._count(connection)
        self._threads.submit_for(owner_of(request, connection.client), self._may_upload, connection, request)

    def _may_upload(self, connection: Connection, request: Any) -> None:
        """In a thread. Where Postgres is away, the application says so when it answers the request."""
        allowed = False
        try:
            allowed = asking(self.wsgi)(authorization_of(request))
        except Exception as error:
            log.warning("api.upload_not_judged", reason=" ".join(str(error).split())[:200])
        finally:
            self._calls.defer(self._decide, connection, authorization_of(request), allowed)

    def _decide(self, connection: Connection, owner: str, allowed: bool) -> None:
        if connection.phase is not Phase.ASKING:
            return  # closed meanwhile
        connection.phase = Phase.READING
        try:
            if allowed and not self._uploads.take(owner or None):
                self._refuse(connection, Refusal(503, "too many large requests are being read: try again"))
                return
            connection.upload_owner = owner if allowed else None
            connection.incoming.decide(allowed=allowed)
            self._take(connection, b"")
            if connection.phase is Phase.READING:
                self._poll(connection, READ)
        except OSError:  # the client is gone
            self._close(connection)
        except Exception:
            log.exception("api.server_broke")
            self._close(connection)

    def _end_upload(self, connection: Connection) -> None:
        if connection.upload_owner is not None:
            self._uploads.give_back(connection.upload_owner or None)
            connection.upload_owner = None

    def _refuse(self, connection: Connection, refusal: Refusal) -> None:
        """Answer instead of the application, and close."""
        self._sent_away[f"{refusal.status}"] += 1
        connection.incoming.clear()
        self._end_upload(connection)
        self._count(connection)
        connection.keeps = False
        connection.outgoing.put(refusal.render())
        self._send_rest(connection)

    def _send_rest(self, connection: Connection) -> None:
        if connection.outgoing.send_some():
            self._after_answer(connection)
            return
        connection.phase, connection.since = Phase.SENDING, time.monotonic()
        connection.deadline = connection.since + self._limits.to_send_s(connection.outgoing.size_bytes)
        self._poll(connection, WRITE)
        if self._buffered.is_too_much:
            self._shed_bytes()

    def _after_answer(self, connection: Connection) -> None:
        connection.since = time.monotonic()
        if connection.keeps:
            connection.phase = Phase.READING
            connection.deadline = connection.since + (self._limits.keepalive_s if self.alive else STOP_KEEPALIVE_S)
            if not connection.incoming.is_empty:  # the next request came with the last one
                self._take(connection, b"")
            if connection.phase is Phase.READING:
                self._poll(connection, READ)
            return
        connection.socket.shutdown(socket.SHUT_WR)
        connection.incoming.clear()
        connection.phase, connection.deadline = Phase.LINGERING, connection.since + LINGER_S
        self._poll(connection, READ)

    # A thread answers.

    def _serve(self, connection: Connection, request: Any) -> None:
        """In a thread: the application's answer to a request."""
        keeps, sent_bytes = False, connection.outgoing.sent_bytes
        try:
            keeps = self._answer(connection, request)
        except StopIteration:
            pass  # a WebSocket has used the connection up
        except OSError as error:  # the client is gone, or too slow
            connection.outgoing.clear()
            connection.is_dropped = True
            log.debug("api.client_left", reason=str(error))
        except Exception:
            log.exception("api.server_broke")
            connection.outgoing.clear()
            if connection.outgoing.sent_bytes == sent_bytes:
                connection.outgoing.put(Refusal(500, "Something broke here; the log of the API says what.").render())
        finally:
            request.body.close()
            self._calls.defer(self._served, connection, keeps)

    def _answer(self, connection: Connection, request: Any) -> bool:
        reply, environ = wsgi.create(
            request, connection.socket, connection.client, connection.server, self.cfg,
            Reply, (connection.outgoing, self._buffered, self._call_shed_bytes),
        )  # fmt: skip
        environ["wsgi.multithread"] = True
        environ["darkroom.limits"] = self._limits
        if not self.alive:
            reply.force_close()
        parts = self.wsgi(environ, reply.start_response)
        try:
            for part in parts:
                reply.write(part)
            reply.close()
        finally:
            if hasattr(parts, "close"):
                parts.close()
        return reply.is_complete and not reply.should_close()

    def _call_shed_bytes(self) -> None:
        self._calls.defer(self._shed_bytes)

    def _served(self, connection: Connection, keeps: bool) -> None:
        """The thread has finished the request; the loop sends the rest of the response."""
        connection.phase, connection.keeps = Phase.SENDING, keeps
        connection.incoming.forget_given()
        self._end_upload(connection)
        self._count(connection)
        try:
            if connection.is_dropped:
                self._abort(connection)
            else:
                self._send_rest(connection)
        except OSError:
            self._close(connection)
        except Exception:
            log.exception("api.server_broke")
            self._close(connection)

    # Connections end.

    def _end_late_ones(self, now: float) -> None:
        for connection in [each for each in self._connections if each.deadline < now]:
            if connection.phase is Phase.READING and not connection.incoming.is_empty:
                seconds = now - connection.since
                what = "body" if connection.incoming.has_head else "header"
                setting = f"API_{what.upper()}_TIMEOUT_S"
                detail = f"the {what} of the request was not complete after {seconds:.0f} s ({setting})"
                with suppress(OSError):
                    self._refuse(connection, Refusal(408, detail))
                    continue
            if connection.phase is Phase.SENDING:
                self._sent_away["took its answer too slowly"] += 1
                self._abort(connection)
            else:
                self._close(connection)  # the kernel may still be sending the answer

    def _abort(self, connection: Connection) -> None:
        """Close without waiting for the client to take the rest, which the kernel would keep for minutes."""
        with suppress(OSError):
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._close(connection)

    def _close(self, connection: Connection) -> None:
        """Not while a thread has it."""
        if connection.phase is Phase.CLOSED:
            return
        self._poll(connection, 0)
        connection.phase = Phase.CLOSED
        connection.incoming.clear()
        connection.outgoing.clear()
        self._end_upload(connection)
        self._buffered.add(-connection.in_memory_bytes)
        connection.socket.close()
        self._connections.discard(connection)
        self._addresses.give_back(connection.address)

    def _shed_connections(self) -> None:
        """There are too many connections: close those that have been in the same state for longest."""
        number = math.ceil(len(self._connections) * SHED_PART)
        idle = [each for each in self._connections if each.phase is not Phase.ANSWERING]
        for connection in heapq.nsmallest(number, idle, key=_since):
            self._sent_away["too many connections"] += 1
            self._abort(connection)

    def _shed_bytes(self) -> None:
        """The buffers use too much memory: close the connections that have filled theirs for longest."""
        now = time.monotonic()
        if not self._buffered.is_too_much or now < self._shed_again_at:
            return
        self._shed_again_at = now + SHED_EVERY_S
        enough = self._buffered.size_bytes - self._buffered.limit * (1 - SHED_PART)
        for connection in sorted(self._connections, key=_since):
            is_answered = connection.phase is Phase.ANSWERING
            freed = connection.in_memory_bytes if not is_answered else 0
            if now - connection.since > FRESH_ANSWER_S:
                freed += connection.outgoing.size_bytes
            if freed == 0 or connection.is_dropped:
                continue
            self._sent_away["too much in memory"] += 1
            if is_answered:
                connection.is_dropped = True
                with suppress(OSError):
                    connection.socket.shutdown(socket.SHUT_RDWR)  # its thread notices, and lets go of it
            else:
                self._abort(connection)
            enough -= freed
            if enough <= 0:
                return

    def _count(self, connection: Connection) -> None:
        """Keep account of what the connection's request has in memory."""
        size_bytes = connection.incoming.in_memory_bytes
        if size_bytes != connection.in_memory_bytes:
            self._buffered.add(size_bytes - connection.in_memory_bytes)
            connection.in_memory_bytes = size_bytes
            if self._buffered.is_too_much:
                self._calls.defer(self._shed_bytes)

    def _tell_who_was_sent_away(self, now: float) -> None:
        """In one line for all of them: a client that misbehaves must not fill the log."""
        if self._sent_away and now >= self._tell_at:
            self._tell_at = now + TELL_EVERY_S
            log.info("api.clients_sent_away", reasons=dict(self._sent_away))
            self._sent_away.clear()

    def _poll(self, connection: Connection, events: int) -> None:
        """Wait for these events of the connection from now on; 0: for none."""
        if events == connection.polled:
            return
        if connection.polled == 0:
            self._poller.register(connection.socket, events, partial(self._on_event, connection))
        elif events == 0:
            self._poller.unregister(connection.socket)
        else:
            self._poller.modify(connection.socket, events, partial(self._on_event, connection))
        connection.polled = events


def _since(connection: Connection) -> float:
    return connection.since


def _wake_up() -> None:
    """Nothing to do but to end the loop's waiting."""


def _keep_unsent_bytes_here(listener: Any) -> None:
    """Let the kernel buffer little for clients that don't read: it would take megabytes for each.

    Connections inherit it. What is on its way to a client doesn't count, so a distant one is as fast as before.
    """
    if hasattr(socket, "TCP_NOTSENT_LOWAT"):
        with suppress(OSError):  # a Unix socket has no such option
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES)


def _possible_connections(wanted: int) -> int:
    """Raise the limit on open files as far as allowed; how many connections fit into it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with suppress(ValueError, OSError):  # macOS calls it unlimited, and refuses it
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = wanted if soft == resource.RLIM_INFINITY else max(64, min(wanted, soft - OTHER_FILES))
    if possible < wanted:
        log.warning("api.few_open_files", connections=possible, hint=f"`ulimit -n` is {soft}: raise it")
    return possible
