"""What a running API takes of memory while a test sends requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import psutil

from tests.support.serving import Service


class Growth:
    """Bytes of resident memory beyond those at the start: the most so far, and at the end."""

    def __init__(self, api: psutil.Process) -> None:
        self._api = api
        self._before = api.memory_info().rss
        self.peak = self.last = 0

    def measure(self) -> None:
        self.last = self._api.memory_info().rss - self._before
        self.peak = max(self.peak, self.last)


@contextmanager
def memory_growth(service: Service) -> Iterator[Growth]:
    """Watch the process that answers requests until the block ends."""
    growth, over = Growth(_api_of(service)), threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            growth.measure()

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield growth
    finally:
        over.set()
        watching.join()
        growth.measure()


def _api_of(service: Service) -> psutil.Process:
    port = service.url.rpartition(":")[2]
    children = psutil.Process().children(recursive=True)
    [api] = [child for child in children if port in child.cmdline() and not child.children()]
    return api
