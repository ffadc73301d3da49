"""What happens to a prediction, as it happens: its server-sent events, and its state where a stream can't be had."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from typing import Any

import urllib3

from cli.client.server import RequestRefused, Server, prediction_path
from storage.errors import OperatorError

ENDED = ("succeeded", "failed", "canceled")
POLL_S = 1.0
GIVE_UP_AFTER_S = 60.0  # without an answer of any kind


def follow(server: Server, prediction_id: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(event, data) until it has ended; the last one is `done` with the prediction.

    A broken stream is opened again: it begins with the present state. Raises OperatorError when the server has been
    away for GIVE_UP_AFTER_S, and at once if it refuses.
    """
    heard_at = time.monotonic()
    while True:
        try:
            with server.stream(prediction_path(prediction_id, "events")) as answer:
                for event, data in parsed(_lines(answer)):
                    heard_at = time.monotonic()
                    yield event, data
                    if event == "done":
                        return
        except (urllib3.exceptions.HTTPError, OSError):
            pass
        except RequestRefused as error:
            if error.status not in (404, 429) and error.status < 500:
                raise
        except OperatorError:
            if time.monotonic() - heard_at > GIVE_UP_AFTER_S:
                raise
        time.sleep(POLL_S)
        try:
            prediction = server.get(prediction_path(prediction_id))
        except OperatorError as error:
            if isinstance(error, RequestRefused) and error.status < 500:
                raise
            if time.monotonic() - heard_at > GIVE_UP_AFTER_S:
                raise
            continue
        heard_at = time.monotonic()
        if prediction["status"] in ENDED:
            yield "done", prediction
            return


def parsed(lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The events in lines of `text/event-stream` (WHATWG HTML, 9.2.6); comments and ids are left out."""
    event = "message"
    data: list[str] = []
    for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            if data:
                yield event, json.loads("\n".join(data))
            event, data = "message", []
        elif field == "event":
            event = value
        elif field == "data":
            data.append(value)


def _lines(answer: urllib3.BaseHTTPResponse) -> Iterator[str]:
    rest = b""
    for piece in answer.stream(4096, decode_content=True):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line.decode(errors="replace").rstrip("\r")
