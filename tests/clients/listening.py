"""A reader of server-sent events that follows the specification, and nobody's client."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

Event = tuple[str, str, Any]  # name, id, data


class Listener:
    """One stream. Each wait for an event ends after a minute at the latest."""

    def __init__(
        self, url: str, *, parse: bool = True, last_event_id: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        headers = dict(headers or {}) | ({} if last_event_id is None else {"Last-Event-ID": last_event_id})
        address = urlsplit(url)
        self._connection = http.client.HTTPConnection(address.netloc, timeout=60)
        self._connection.request("GET", f"{address.path}?{address.query}", headers=headers)
        self._response = self._connection.getresponse()
        assert self._response.status == 200, self._response.read()
        assert self._response.headers["Content-Type"].startswith("text/event-stream")
        self._parse = parse
        self._events = self._read()

    def __enter__(self) -> Listener:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()
        self._connection.close()

    def next(self) -> Event:
        return next(self._events)

    def until(self, name: str) -> list[Event]:
        """All that comes, to the first event of that name."""
        events: list[Event] = []
        for event in self._events:
            events.append(event)
            if event[0] == name:
                return events
        raise AssertionError(f"the stream ended without {name}: {events}")

    def rest(self) -> list[Event]:
        """All that still comes, to the end of the stream. Raises IncompleteRead where it is cut off."""
        return list(self._events)

    def _read(self) -> Iterator[Event]:
        name, id_, data = "", "", list[str]()
        while line := self._response.readline():
            text = line.decode().removesuffix("\n")
            field, _, value = text.partition(":")
            value = value.removeprefix(" ")
            if not text and name:
                joined = "\n".join(data)
                yield name, id_, json.loads(joined) if self._parse else joined
                name, data = "", []
            elif field == "event":
                name = value
            elif field == "id":
                id_ = value
            elif field == "data":
                data.append(value)
