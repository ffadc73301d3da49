"""One client's connection, as the loop sees it."""

from __future__ import annotations

import math
import socket
from enum import Enum, auto
from typing import Any

from api.server.request.incoming import Incoming
from api.server.response.outgoing import Outgoing


class Phase(Enum):
    READING = auto()  # a request arrives, or the next one is waited for
    ASKING = auto()  # whether the body may be large: nothing is read
    ANSWERING = auto()  # a thread has the request, and the socket
    SENDING = auto()  # the client has not taken all of its answer
    LINGERING = auto()  # we said all; what the client still says is dropped until it closes its side
    CLOSED = auto()


class Connection:
    """`since`: when it began to do what it does; the oldest is closed first where there are too many."""

    __slots__ = (
        "address",
        "client",
        "deadline",
        "in_memory_bytes",
        "incoming",
        "is_dropped",
        "keeps",
        "outgoing",
        "phase",
        "polled",
        "server",
        "since",
        "socket",
        "upload_owner",
    )  # fmt: skip

    def __init__(
        self, socket: socket.socket, client: Any, server: Any, address: str, incoming: Incoming, outgoing: Outgoing
    ) -> None:
        self.socket = socket
        self.client = client
        self.server = server
        self.address = address  # what it is counted as
        self.incoming = incoming
        self.outgoing = outgoing
        self.phase = Phase.READING
        self.since = 0.0
        self.deadline = math.inf
        self.polled = 0  # the events that the loop waits for
        self.in_memory_bytes = 0  # what the loop counted of `incoming`
        self.keeps = False  # whether another request may follow
        self.upload_owner: str | None = None  # whose large body it holds, which is counted
        self.is_dropped = False  # closed as soon as its thread lets go of it
