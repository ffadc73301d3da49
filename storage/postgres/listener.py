"""The events of all predictions, fanned out to the requests of one process that wait for some of them.

One LISTEN a process feeds it. Whatever was notified while that connection was away is lost, so after every
(re)connection each subscriber is told to read its row again.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any

import structlog

from storage.postgres.notify import CHANNEL, WORKERS_CHANNEL, Listener

log = structlog.get_logger(__name__)

# What a feed holds for a reader that is slow. When it is full the reader is told to read the row instead.
FEED_LENGTH = 64


@dataclass(frozen=True)
class Step:
    """A denoising step was taken."""

    step: int
    steps: int


@dataclass(frozen=True)
class Preview:
    """A small picture of a drawing that is not done: base64 of a WebP, at most 5 kB."""

    webp_base64: str


class Signal(Enum):
    """What a reader has to do something about."""

    MOVED = "moved"  # read the row again
    CLOSED = "closed"  # the process is stopping: end
    REVOKED = "revoked"  # the reader may not read any more: end


News = Step | Preview | Signal

ENDS = (Signal.CLOSED, Signal.REVOKED)


class Feed:
    """What came for one prediction, in order, until it is read. One thread reads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._news: deque[News] = deque([Signal.MOVED])  # whoever subscribes reads the row first

    def put(self, news: News) -> None:
        with self._changed:
            if self._is_at_its_end() or (news is Signal.MOVED and self._news and self._news[-1] is news):
                return
            if len(self._news) >= FEED_LENGTH:
                self._news.clear()
                self._news.append(Signal.MOVED)
            if news in ENDS:
                self._news.clear()
            self._news.append(news)
            self._changed.notify()

    def next(self, timeout_s: float) -> News | None:
        """What came next, or None after `timeout_s`. After CLOSED or REVOKED nothing else comes."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._news, timeout_s):
                return None
            return self._news[0] if self._is_at_its_end() else self._news.popleft()

    def revoke(self) -> None:
        """End this feed alone."""
        self.put(Signal.REVOKED)

    def _is_at_its_end(self) -> bool:
        return bool(self._news) and self._news[0] in ENDS


class EventListener:
    """One LISTEN, any number of feeds."""

    def __init__(self, url: str, *, name: str) -> None:
        self._lock = threading.Lock()
        self._feeds: dict[str, set[Feed]] = defaultdict(set)
        self._closing = threading.Event()
        self._moves = 0
        self._listener = Listener(
            url, [CHANNEL, WORKERS_CHANNEL], name=name, on_notify=self._hear, on_connect=self._tell_all_to_read
        )

    def start(self) -> None:
        self._listener.start()

    def stop(self) -> None:
        """End all feeds and close the connection."""
        self.close()
        self._listener.stop()

    def close(self) -> None:
        """End all feeds, now and from now on: what waits or streams answers with what it has."""
        self._closing.set()
        for feed in self._all_feeds():
            feed.put(Signal.CLOSED)

    @property
    def is_closing(self) -> bool:
        return self._closing.is_set()

    @property
    def is_listening(self) -> bool:
        return self._listener.connected.is_set()

    @property
    def moves(self) -> int:
        """Rises with everything that may have changed a queue: who sees the same number need not look again."""
        return self._moves

    @contextmanager
    def follow(self, prediction_id: str) -> Iterator[Feed]:
        """The news of one prediction; the first is MOVED, so that the row is read after the subscription."""
        feed = Feed()
        with self._lock:
            self._feeds[prediction_id].add(feed)
        if self._closing.is_set():
            feed.put(Signal.CLOSED)
        try:
            yield feed
        finally:
            with self._lock:
                self._feeds[prediction_id].discard(feed)
                if not self._feeds[prediction_id]:
                    del self._feeds[prediction_id]

    def _hear(self, channel: str, payload: str) -> None:
        try:
            event: dict[str, Any] = json.loads(payload)
            if channel == WORKERS_CHANNEL:
                self._moves += 1
            else:
                self._tell(event)
        except (ValueError, KeyError, TypeError):  # somebody else's NOTIFY must not end the thread
            log.warning("listener.not_understood", channel=channel, payload=payload[:200])

    def _tell(self, event: dict[str, Any]) -> None:
        news: News = Signal.MOVED
        if "preview" in event:
            news = Preview(str(event["preview"]))
        elif "step" in event:
            news = Step(int(event["step"]), int(event["steps"]))
        else:
            self._moves += 1
        with self._lock:
            feeds = list(self._feeds.get(event["id"], ()))
        for feed in feeds:
            feed.put(news)

    def _tell_all_to_read(self) -> None:
        self._moves += 1
        for feed in self._all_feeds():
            feed.put(Signal.MOVED)

    def _all_feeds(self) -> list[Feed]:
        with self._lock:
            return [feed for feeds in self._feeds.values() for feed in feeds]
