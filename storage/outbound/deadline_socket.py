"""A TCP connection, with or without TLS, that has one deadline for everything.

A socket's timeout applies to each read: a server that sends one byte a second can keep a call with a timeout of 2 s
open for ever. Here the connect, the TLS handshake and all reads have the same deadline. They also end as soon as
`interrupted` is set.
"""

import contextlib
import errno
import io
import os
import select
import socket
import ssl
import threading
import time
from typing import TYPE_CHECKING

from storage.outbound.public_addresses import Address

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# An interruption is noticed after at most this time.
_POLL_S = 0.2


class Interrupted(Exception):
    """The process is stopping. The peer may or may not have received the request."""


class DeadlineSocket(io.RawIOBase):
    """Raises TimeoutError at the deadline, and Interrupted soon after `interrupted` is set.

    `deadline` is a time.monotonic() value. After `max_read_bytes`, reads return nothing, as if the peer had closed the
    connection.
    """

    def __init__(self, deadline: float, *, max_read_bytes: int, interrupted: threading.Event | None) -> None:
        self._deadline = deadline
        self._left_bytes = max_read_bytes
        self._interrupted = interrupted
        self._socket: socket.socket | ssl.SSLSocket | None = None

    def end_by(self, deadline: float) -> None:
        """Make the deadline earlier. A later one is ignored."""
        self._deadline = min(self._deadline, deadline)

    def connect(self, address: Address, port: int, *, until: float) -> None:
        """Connect to this address before `until` and the deadline. Raises OSError."""
        family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
        self._socket = connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = connection.connect_ex((str(address), port))
            if code == errno.EINPROGRESS:
                self._wait(select.POLLOUT, until=until)
                code = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise OSError(code, os.strerror(code))
        except BaseException:
            self._drop()
            raise

    def start_tls(self, context: ssl.SSLContext, server_hostname: str) -> None:
        """Do the TLS handshake. The certificate must be for server_hostname. Raises ssl.SSLError, OSError."""
        assert self._socket is not None
        # If wrap_socket fails, the descriptor belongs to the old socket or to the new one. _drop closes both.
        self._socket = tls = context.wrap_socket(
            self._socket, server_hostname=server_hostname, do_handshake_on_connect=False
        )
        while True:
            try:
                tls.do_handshake()
                return
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
                self._wait_for(wanted)

    def send_all(self, data: bytes) -> None:
        assert self._socket is not None
        view = memoryview(data)
        while view:
            try:
                view = view[self._socket.send(view) :]
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
                self._wait_for(wanted, otherwise=select.POLLOUT)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        assert self._socket is not None
        view = memoryview(buffer)[: self._left_bytes]
        if not view:
            return 0
        while True:
            # Check before each read: if the peer never stops sending, there is never a wait.
            self._check()
            try:
                count = self._socket.recv_into(view)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError) as wanted:
                self._wait_for(wanted)
            else:
                self._left_bytes -= count
                return count

    def makefile(self, mode: str) -> io.BufferedReader:
        """http.client.HTTPResponse calls this."""
        return io.BufferedReader(self)

    def close(self) -> None:
        self._drop()
        super().close()

    def _drop(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    def _wait_for(self, wanted: Exception, otherwise: int = select.POLLIN) -> None:
        if isinstance(wanted, ssl.SSLWantReadError):
            self._wait(select.POLLIN)
        elif isinstance(wanted, ssl.SSLWantWriteError):
            self._wait(select.POLLOUT)
        else:
            self._wait(otherwise)

    def _wait(self, event: int, *, until: float | None = None) -> None:
        assert self._socket is not None
        end = self._deadline if until is None else min(until, self._deadline)
        poll = select.poll()
        poll.register(self._socket, event)
        while not poll.poll(1000 * max(0.0, min(_POLL_S, end - time.monotonic()))):
            self._check(end)

    def _check(self, end: float | None = None) -> None:
        if self._interrupted is not None and self._interrupted.is_set():
            raise Interrupted
        if time.monotonic() >= (self._deadline if end is None else end):
            raise TimeoutError(errno.ETIMEDOUT, "timed out")
