"""What came for a reader, until it is read: of one prediction (Feed), or of all of an owner (OwnerFeed)."""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass, field
from enum import Enum

# What a feed holds for a slow reader. When it is full, the reader is asked to read the row instead.
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
        self._news: deque[News] = deque([Signal.MOVED])  # a subscriber reads the row first

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


# So many predictions of one owner may have changed before its reader looks; more, and it reads everything again.
MOVED_AT_MOST = 5_000


@dataclass
class OwnerNews:
    """What happened to the predictions of an owner since the reader looked last: of each kind, the newest."""

    begins_anew: bool = False  # something before may have been missed: read everything again
    moved: dict[str, None] = field(default_factory=dict)  # ids, in the order in which they changed: read these rows
    steps: dict[str, Step] = field(default_factory=dict)  # by id
    previews: dict[str, Preview] = field(default_factory=dict)
    end: Signal | None = None  # CLOSED or REVOKED: nothing else comes

    def __bool__(self) -> bool:
        return bool(self.begins_anew or self.moved or self.steps or self.previews or self.end)


class OwnerFeed:
    """What came for all predictions of one owner, merged until it is read. One thread reads.

    Its size is bounded however slow the reader is, since for each prediction only the newest of each kind is held.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._news = OwnerNews()

    def put(self, prediction_id: str, news: News) -> None:
        with self._changed:
            match news:
                case Step():
                    self._news.steps[prediction_id] = news
                case Preview():
                    self._news.previews[prediction_id] = news
                case Signal():
                    self._news.moved.pop(prediction_id, None)  # it changed last now
                    self._news.moved[prediction_id] = None
            if max(len(self._news.moved), len(self._news.steps)) > MOVED_AT_MOST:
                self._news = OwnerNews(begins_anew=True, end=self._news.end)
            self._changed.notify()

    def begin_anew(self) -> None:
        """Let the reader read everything again."""
        with self._changed:
            self._news = OwnerNews(begins_anew=True, end=self._news.end)
            self._changed.notify()

    def end(self, signal: Signal) -> None:
        with self._changed:
            self._news.end = self._news.end or signal
            self._changed.notify()

    def revoke(self) -> None:
        """End this feed alone."""
        self.end(Signal.REVOKED)

    def next(self, timeout_s: float) -> OwnerNews:
        """What came since the last call; it is false if nothing came within `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._news, timeout_s)
            news, self._news = self._news, OwnerNews(end=self._news.end)
            return news
