"""SIGTERM, SIGINT, and what the host orders, heard by a thread from the first line of the worker's command on.

Python runs signal handlers on the main thread, between two instructions. A main thread that imports torch or reads
weights in C code would not get there for minutes. So the handlers do nothing. Python itself writes each signal's number
into a pipe at the moment it arrives (`signal.set_wakeup_fd`), and the thread reads the pipe.

This file imports the standard library only: it has to work before anything else is imported.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
ORDERS = (signal.SIGUSR1, signal.SIGUSR2)  # see worker/standby.py
# A goodbye that takes longer (Postgres hangs) is cut off. Rescue removes the worker's row within a minute.
GOODBYE_S = 3.0


def leave_now(say_goodbye: Callable[[], None] = lambda: None) -> NoReturn:
    """End this process with exit code 0, whatever its other threads do. Only while it holds no claim."""

    def goodbye() -> None:
        with suppress(Exception):
            say_goodbye()
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):  # the reader of our lines is gone
                stream.flush()

    saying = threading.Thread(target=goodbye, name="goodbye", daemon=True)
    saying.start()
    saying.join(GOODBYE_S)
    os._exit(0)


class StopSignals:
    """Calls one function for each SIGTERM and SIGINT, on a thread of its own. At first that is `leave_now`.

    Orders are ignored until `call_at` has named a function for them.
    """

    def __init__(self) -> None:
        self._on_stop: Callable[[], None] = leave_now
        self._on_order: dict[int, Callable[[], None]] = {}

    def listen(self) -> None:
        """Hear the signals from now on. Call it once a process, on the main thread."""
        reading_end, writing_end = os.pipe()
        os.set_blocking(writing_end, False)
        signal.set_wakeup_fd(writing_end, warn_on_full_buffer=False)
        for number in (*STOP_SIGNALS, *ORDERS):
            signal.signal(number, _do_nothing)
        threading.Thread(target=self._hear, args=(reading_end,), name="stop-signals", daemon=True).start()

    def call(self, on_stop: Callable[[], None]) -> None:
        """Call this function from now on."""
        self._on_stop = on_stop

    def call_at(self, number: signal.Signals, on_order: Callable[[], None]) -> None:
        """Call this function at one of ORDERS."""
        self._on_order[number] = on_order

    def _hear(self, reading_end: int) -> None:
        while True:
            for number in os.read(reading_end, 64):
                called = self._on_stop if number in STOP_SIGNALS else self._on_order.get(number)
                if called is not None:
                    try:
                        called()
                    except Exception:  # the next signal must be heard too
                        logging.getLogger(__name__).exception("worker.signal_failed")


def _do_nothing(number: int, frame: FrameType | None) -> None:
    """The default action would end the process, and an ignored signal would not be written into the pipe."""
