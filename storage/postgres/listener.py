"""The events of all predictions, fanned out to the requests of one process that wait for some of them.

One LISTEN per process feeds it. Notifications that were sent while that connection was away are lost, so after every
(re)connection each subscriber is asked to read its row again.
"""

from __future__ import annotations

import json
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import structlog

from storage.postgres.feed import Feed, News, OwnerFeed, Preview, Signal, Step
from storage.postgres.notify import CHANNEL, LOGS, SUBMITTED_CHANNEL, WORKERS_CHANNEL, Listener

log = structlog.get_logger(__name__)


class EventListener:
    """One LISTEN, any number of feeds; and another LISTEN, to new predictions, as soon as an owner's are followed."""

    def __init__(self, url: str, *, name: str) -> None:
        self._lock = threading.Lock()
        self._feeds: dict[str, set[Feed]] = defaultdict(set)  # by prediction
        self._owner_feeds: dict[int | None, set[OwnerFeed]] = defaultdict(set)  # by token; None: all predictions
        self._closing = threading.Event()
        self._moves = 0
        self._is_hearing_of_new = False
        self._listener = Listener(
            url, [CHANNEL, WORKERS_CHANNEL], name=name, on_notify=self._hear, on_connect=self._tell_all_to_read
        )
        self._new_listener = Listener(
            url, [SUBMITTED_CHANNEL], name=f"{name} submitted", on_notify=self._hear, on_connect=self._begin_anew
        )

    def start(self) -> None:
        self._listener.start()

    def stop(self) -> None:
        """End all feeds and close the connection."""
        self.close()
        self._listener.stop()
        self._new_listener.stop()

    def close(self) -> None:
        """End all feeds, now and from now on: what waits or streams answers with what it has."""
        self._closing.set()
        for feed in self._all_feeds():
            feed.put(Signal.CLOSED)
        for owner_feed in self._all_owner_feeds():
            owner_feed.end(Signal.CLOSED)

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

    @contextmanager
    def follow_owner(self, token_id: int | None) -> Iterator[OwnerFeed]:
        """The news of all predictions of a token, or of all there are (None). `begins_anew` says when they begin."""
        feed = OwnerFeed()
        with self._lock:
            self._owner_feeds[token_id].add(feed)
            if not self._is_hearing_of_new:
                self._is_hearing_of_new = True
                self._new_listener.start()
        if self._new_listener.connected.is_set():  # if it connects from now on, it tells this feed too
            feed.begin_anew()
        if self._closing.is_set():
            feed.end(Signal.CLOSED)
        try:
            yield feed
        finally:
            with self._lock:
                self._owner_feeds[token_id].discard(feed)
                if not self._owner_feeds[token_id]:
                    del self._owner_feeds[token_id]

    def _hear(self, channel: str, payload: str) -> None:
        try:
            event: dict[str, Any] = json.loads(payload)
            if channel == WORKERS_CHANNEL:
                self._moves += 1
            elif channel == SUBMITTED_CHANNEL:
                self._tell_of_new(event)
            else:
                self._tell(event)
        except (ValueError, KeyError, TypeError):  # somebody else's NOTIFY must not end the thread
            log.warning("listener.not_understood", channel=channel, payload=payload[:200])

    def _tell(self, event: dict[str, Any]) -> None:
        prediction_id, is_about_logs = event["id"], event.get("about") == LOGS
        news: News = Signal.MOVED
        if "preview" in event:
            news = Preview(str(event["preview"]))
        elif "step" in event:
            news = Step(int(event["step"]), int(event["steps"]))
        elif not is_about_logs:
            self._moves += 1
        with self._lock:
            feeds = list(self._feeds.get(prediction_id, ()))
            # Their readers hear of each step, so that they need not read the logs.
            owner_feeds = [] if is_about_logs else self._feeds_of_owner(event)
        for feed in feeds:
            feed.put(news)
        for owner_feed in owner_feeds:
            owner_feed.put(prediction_id, news)

    def _tell_of_new(self, event: dict[str, Any]) -> None:
        """Who follows one prediction has read its row after it was submitted."""
        self._moves += 1
        with self._lock:
            owner_feeds = self._feeds_of_owner(event)
        for feed in owner_feeds:
            feed.put(event["id"], Signal.MOVED)

    def _feeds_of_owner(self, event: dict[str, Any]) -> list[OwnerFeed]:
        if "token_id" not in event:  # an older release doesn't say whose it is: readers find out
            return [feed for feeds in self._owner_feeds.values() for feed in feeds]
        token_id = event["token_id"]
        owners = (None,) if token_id is None else (None, token_id)
        return [feed for owner in owners for feed in self._owner_feeds.get(owner, ())]

    def _tell_all_to_read(self) -> None:
        self._moves += 1
        for feed in self._all_feeds():
            feed.put(Signal.MOVED)
        self._begin_anew()

    def _begin_anew(self) -> None:
        """Only while new predictions are heard of, which may begin a moment after the feed."""
        if self._new_listener.connected.is_set():
            for owner_feed in self._all_owner_feeds():
                owner_feed.begin_anew()

    def _all_feeds(self) -> list[Feed]:
        with self._lock:
            return [feed for feeds in self._feeds.values() for feed in feeds]

    def _all_owner_feeds(self) -> list[OwnerFeed]:
        with self._lock:
            return [feed for feeds in self._owner_feeds.values() for feed in feeds]
