"""Detects that the client of a stream has disconnected."""

from __future__ import annotations

import socket
import ssl

from flask import request

# The kernel probes an idle connection after 5 s. A peer that acknowledges nothing for 10 s counts as disconnected.
UNANSWERED_MS = 10_000
KEEPALIVE_S = 5
# How often a waiting request checks that its client is still connected.
LOOK_EVERY_S = 2.0


def client_connection() -> object:
    """The socket of this request, or None if the server doesn't expose it (gunicorn does)."""
    return request.environ.get("gunicorn.socket")


def expect_answers(connection: object) -> None:
    """Let the kernel close this connection soon after the peer stops answering or reading."""
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
    """Whether the peer closed the connection. A write fails too in that case, but only the second one."""
    if not isinstance(connection, socket.socket) or isinstance(connection, ssl.SSLSocket):
        return False
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
