"""A child that should always run: start it, see it die, start it again, not too fast."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable

from cli.processes import signal_group
from cli.up.log_stream import LogStream
from cli.up.stale_processes import ProcessRecord
from storage.errors import OperatorError

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
HEALTHY_AFTER_S = 60.0


class BackOff:
    """How long to wait before the next start: 1 s, 2 s, … 30 s, and from the beginning after a minute's health."""

    def __init__(self, first_delay_s: float = FIRST_DELAY_S) -> None:
        self._first_delay_s = first_delay_s
        self._failures = 0

    def forget(self) -> None:
        """It did well: the next failure is the first."""
        self._failures = 0

    def after_failure(self, lived_s: float) -> float:
        self._failures = 1 if lived_s >= HEALTHY_AFTER_S else self._failures + 1
        if self._failures == 1:
            return self._first_delay_s
        return min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** (self._failures - 1))


class Child:
    """One process of a role, written down while it runs, its lines passed on."""

    def __init__(self, role: str, process: subprocess.Popen[bytes], record: ProcessRecord, log: LogStream) -> None:
        self.role = role
        self.process = process
        self.started_at = time.monotonic()
        self._record = record
        self._pump: threading.Thread | None = None
        record.add(role, process.pid)
        if process.stdout is not None:
            self._pump = log.follow(role, process.stdout)

    @property
    def lived_s(self) -> float:
        return time.monotonic() - self.started_at

    def exit_code(self) -> int | None:
        """None while it runs. Once it is gone, its last lines are in the log and what it started is ended."""
        code = self.process.poll()
        if code is not None:
            signal_group(self.process.pid, signal.SIGKILL)
            if self._pump is not None:
                self._pump.join(timeout=1.0)
            self._record.remove(self.process.pid)
        return code

    def terminate(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        signal_group(self.process.pid, signal.SIGKILL)


class Role:
    """A role that runs always, in one process."""

    def __init__(
        self,
        name: str,
        launch: Callable[[], subprocess.Popen[bytes]],
        record: ProcessRecord,
        log: LogStream,
        *,
        first_delay_s: float = FIRST_DELAY_S,
    ) -> None:
        self.name = name
        self.child: Child | None = None
        self.last_exit_code: int | None = None
        self._launch = launch
        self._record = record
        self._log = log
        self._back_off = BackOff(first_delay_s)
        self._next_start_at = 0.0

    def start(self) -> None:
        """The first start: what goes wrong is the caller's. Later ones are `tick`'s."""
        self.adopt(self._launch())

    def adopt(self, process: subprocess.Popen[bytes]) -> None:
        self.child = Child(self.name, process, self._record, self._log)

    def tick(self) -> None:
        """Look after it; called many times a second. Never blocks for long, never raises for what may heal."""
        if self.child is not None:
            code = self.child.exit_code()
            if code is None:
                return
            self.last_exit_code = code
            self._plan(f"{self.name} {describe_exit(code)}", self.child.lived_s)
            self.child = None
        if time.monotonic() >= self._next_start_at:
            try:
                self.adopt(self._launch())
            except (OperatorError, OSError) as error:
                self._plan(str(error), 0.0)

    def _plan(self, what: str, lived_s: float) -> None:
        delay_s = self._back_off.after_failure(lived_s)
        self._next_start_at = time.monotonic() + delay_s
        self._log.from_role("up", f"{what}; starting it again {f'in {delay_s:.0f} s' if delay_s else 'at once'}")


def describe_exit(code: int) -> str:
    """An exit status in words."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
