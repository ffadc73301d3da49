"""Server-sent events: how one is written, and the response that keeps a stream of them within bounds."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any

from flask import Response

from api.errors import Problem
from api.live.access_watch import Access
from api.live.client_connection import client_connection, expect_answers, has_hung_up
from api.live.watch import AccessEnded
from api.services import Services

# Proxies close connections that say nothing, after 60 s mostly.
PING_S = 15.0
PING = ": ping\n\n"


def event(name: str, data: str, id_: str | None = None) -> str:
    """One event as text. Line breaks in `data` are kept, as one `data:` line each.

    `id_` is what a client that reconnects sends as Last-Event-ID.
    """
    lines = data.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    id_line = [] if id_ is None else [f"id: {id_}\n"]
    return "".join([f"event: {name}\n", *id_line, *(f"data: {line}\n" for line in lines), "\n"])


def compact(value: Any) -> str:
    """JSON in ASCII: some clients take U+2028 and its like for the end of a line."""
    return json.dumps(value, separators=(",", ":"))


def stream_response(here: Services, events: Callable[[], Iterable[str | None]], access: Access | None) -> Response:
    """A response of these events, in the slot that `access` took; None stands for a while without any."""
    response = Response(_with_pings(events), content_type="text/event-stream; charset=utf-8")
    response.call_on_close(lambda: here.streaming.give_back(owner_of(access)))
    # no-transform and X-Accel-Buffering: proxies that compress or buffer would hold events back.
    response.headers.update({"Cache-Control": "no-store, no-transform", "X-Accel-Buffering": "no"})
    return response


def owner_of(access: Access | None) -> int | None:
    """The token whose slot a stream takes, also if a signed URL was opened."""
    return None if access is None else access.token_id


def take_slot(here: Services, access: Access | None) -> None:
    """Count one more stream; the end of its response gives it back.

    Raises Problem where this process has as many streams as it may, or this token has its share of them.
    """
    if not here.streaming.take(owner_of(access)):
        raise Problem(
            503,
            "Too many streams",
            f"this process streams to {here.streaming.taken} clients, of {here.settings.api_max_streams} at most, and a"
            " token may have no more streams than are left: poll the prediction, try again later, or raise"
            " API_MAX_STREAMS",
            headers={"Retry-After": "5"},
        )


def _with_pings(events: Callable[[], Iterable[str | None]]) -> Iterator[bytes]:
    socket = client_connection()
    expect_answers(socket)

    def stream() -> Iterator[bytes]:
        said_at = time.monotonic()
        yield b": connected\n\n"  # the headers go out with it, also when nothing happens for long
        with suppress(AccessEnded):  # the connection closes; a client that connects again is told why it may not
            for text in events():
                if text is None:
                    if has_hung_up(socket):
                        return
                    if time.monotonic() - said_at < PING_S - 0.5:
                        continue
                    text = PING
                yield text.encode()
                said_at = time.monotonic()

    return stream()
