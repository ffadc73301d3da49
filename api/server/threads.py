"""The threads that answer: few while all of them work, more for requests that mostly sleep.

Under CPython's interpreter lock threads that are all busy only hinder each other: with 64 clients that submit at once,
8 threads answer more requests a second than 64 do, and the slowest of them sooner (bench/submit.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import Any, ParamSpec, TypeVar

from api.server.turns import Turns

P = ParamSpec("P")
T = TypeVar("T")

_here = threading.local()


def expect_to_sleep() -> None:
    """The request of this thread mostly waits from here on, to its end: another one may run beside it."""
    request = getattr(_here, "request", None)
    if request is not None:
        request.pool.let_another_run(request)


@dataclass(eq=False)
class _Request:
    pool: RequestThreads
    function: Callable[[], Any]
    future: Future[Any]
    began_at: float = 0.0
    sleeps: bool = False

    def run(self) -> None:
        if not self.future.set_running_or_notify_cancel():
            return
        _here.request = self
        try:
            self.future.set_result(self.function())
        except BaseException as error:
            self.future.set_exception(error)
        finally:
            _here.request = None


class RequestThreads(Executor):
    """At most `busy` requests run at the same time, not counting those that sleep or hang, in at most `most` threads.

    A request that has run for `patience_s` while others wait hangs in something (Postgres, S3), as if it
    slept. A thread with nothing to do is kept for `idle_s`. All are daemons: what hangs when the process stops holds it
    up no longer than its grace period.
    """

    def __init__(self, busy: int, most: int, *, patience_s: float = 0.25, idle_s: float = 30.0) -> None:
        self._busy = busy
        self._most = most
        self._patience_s = patience_s
        self._idle_s = idle_s
        lock = threading.Lock()
        self._offered = threading.Condition(lock)  # there is something to do, or no more will come
        self._left = threading.Condition(lock)  # a thread ended
        self._waiting: Turns[_Request] = Turns()
        self._running: set[_Request] = set()
        self._threads = 0
        self._idle = 0
        self._sleeping = 0
        self._is_watched = False
        self._is_shut_down = False

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        return self.submit_for(None, fn, *args, **kwargs)

    def submit_for(self, owner: Hashable, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """The same; while requests wait for a thread, their owners take turns."""
        future: Future[T] = Future()
        with self._offered:
            if self._is_shut_down:
                raise RuntimeError("cannot schedule new futures after shutdown")
            self._waiting.add(owner, _Request(self, lambda: fn(*args, **kwargs), future))
            self._find_a_thread()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        with self._offered:
            self._is_shut_down = True
            while cancel_futures and self._waiting:
                self._waiting.take().future.cancel()
            self._offered.notify_all()
            while wait and self._threads:
                self._left.wait()

    def let_another_run(self, request: _Request) -> None:
        """A request that runs here sleeps, or hangs, until it ends."""
        with self._offered:
            self._let_another_run(request)

    # The lock is held by those who call these three.

    def _let_another_run(self, request: _Request) -> None:
        if not request.sleeps:
            request.sleeps = True
            self._sleeping += 1
            self._find_a_thread()

    def _find_a_thread(self) -> None:
        if self._idle >= len(self._waiting):
            self._offered.notify()
        elif self._free_slots() > 0:
            self._start_thread()
        elif not self._is_watched:
            self._is_watched = True
            threading.Thread(target=self._watch, name="requests watch", daemon=True).start()

    def _free_slots(self) -> int:
        """How many threads more there may be; below zero, some are too many."""
        return min(self._busy + self._sleeping, self._most) - self._threads

    def _start_thread(self) -> None:
        try:
            threading.Thread(target=self._serve, name="request", daemon=True).start()
        except RuntimeError:  # the system has none left
            if self._threads == 0:
                raise
        else:
            self._threads += 1

    def _serve(self) -> None:
        while (request := self._next()) is not None:
            request.run()
            with self._offered:
                self._running.remove(request)
                self._sleeping -= request.sleeps

    def _next(self) -> _Request | None:
        """The request whose turn it is; None if this thread is one too many, or was idle for long."""
        with self._offered:
            while self._free_slots() >= 0:
                if self._waiting:
                    request = self._waiting.take()
                    request.began_at = time.monotonic()
                    self._running.add(request)
                    return request
                if self._is_shut_down:
                    break
                self._idle += 1
                was_offered = self._offered.wait(self._idle_s)
                self._idle -= 1
                if not was_offered and not self._waiting:
                    break
            self._threads -= 1
            self._left.notify_all()
            self._offered.notify()  # what woke this one may have been meant for another
            return None

    def _watch(self) -> None:
        """While requests wait: see which of those that run hang."""
        pause = threading.Event()
        while True:
            pause.wait(self._patience_s / 2)
            with self._offered:
                if not self._waiting:
                    self._is_watched = False
                    return
                long_ago = time.monotonic() - self._patience_s
                for request in [each for each in self._running if each.began_at < long_ago]:
                    self._let_another_run(request)
