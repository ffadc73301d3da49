"""The client's connection behind a stream: noticing that nobody is there any more."""

from __future__ import annotations

import socket
import ssl

from flask import request

# A peer that acknowledges nothing for 10 s is gone; the kernel asks after 5 s of silence.
UNANSWERED_MS = 10_000
KEEPALIVE_S = 5
# How often a request that waits looks whether its client is still there.
LOOK_EVERY_S = 2.0


def client_connection() -> object:
    """The socket of this request, where the server lets us see it (gunicorn does)."""
    return request.environ.get("gunicorn.socket")


def expect_answers(connection: object) -> None:
    """Let the kernel end this connection soon after its peer stopped answering, or reading."""
    if not isinstance(connection, socket.socket) or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", KEEPALIVE_S),
        ("TCP_KEEPINTVL", KEEPALIVE_S),
        ("TCP_KEEPCNT", 2),
        ("TCP_USER_TIMEOUT", UNANSWERED_MS),  # Linux only
    ):
        if hasattr(socket, name):
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def has_hung_up(connection: object) -> bool:
    """Whether the peer closed the connection. A write would notice it too, but only the second one."""
    if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket):
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
