"""Ctrl-C and SIGTERM as something to look at, not as an exception that strikes anywhere."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


class Interrupted(Exception):
    """The start was given up because a signal asked for it."""


class StopRequest:
    """Which signals asked us to stop. An exception could strike between the start of a child and our note of it.

    The handler only counts: a lock taken in it could be held already by the code that it interrupted.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first: signal.Signals | None = None

    def install(self) -> None:
        """SIGINT and SIGTERM stop us, and so does the end of the terminal. Main thread only."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._note)

    def is_set(self) -> bool:
        return self.count > 0

    def raise_if_set(self) -> None:
        if self.is_set():
            raise Interrupted

    def _note(self, number: int, _frame: object) -> None:
        self.count += 1
        self.first = self.first or signal.Signals(number)


def give_way_to(stop: StopRequest, work: Callable[[], Result]) -> Result:
    """Do `work` on a thread and leave it behind, at once, if we are asked to stop meanwhile.

    For calls over the network that can't be interrupted. The thread dies with the process; the work has to be
    fit for that, as a database transaction is.
    """
    outcome: list[Result] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            outcome.append(work())
        except BaseException as error:
            failure.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        stop.raise_if_set()
        time.sleep(0.02)
    if failure:
        raise failure[0]
    return outcome[0]
