"""A child that should always run: start it, see it die, start it again, not too fast."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable

from cli.processes import signal_group
from cli.supervision.forked_process import Process
from cli.supervision.log_stream import LogStream
from cli.supervision.stale_processes import ProcessRecord
from storage.backoff import Backoff
from storage.errors import OperatorError

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 30.0
HEALTHY_AFTER_S = 60.0


class RestartDelay:
    """How long to wait before the next start: `first_delay_s`, then 2 s, 4 s, … 30 s; reset after a healthy minute."""

    def __init__(self, first_delay_s: float = FIRST_DELAY_S) -> None:
        self._first_delay_s = first_delay_s
        self._has_failed = False
        self._backoff = Backoff(2 * FIRST_DELAY_S, at_most_s=LONGEST_DELAY_S)

    def reset(self) -> None:
        """Call this after it did well: the next failure counts as the first."""
        self._has_failed = False
        self._backoff.reset()

    def after_failure(self, lived_s: float) -> float:
        """How long to wait now, in seconds. `lived_s`: for how long the process ran."""
        if lived_s >= HEALTHY_AFTER_S:
            self.reset()
        if not self._has_failed:
            self._has_failed = True
            return self._first_delay_s
        return self._backoff.next_s()


class Child:
    """One process of a role, written down while it runs, its lines passed on."""

    def __init__(self, role: str, process: Process, record: ProcessRecord, log: LogStream) -> None:
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
        self._restart_delay = RestartDelay(first_delay_s)
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

    def try_now(self) -> None:
        """Start it without the delay, if it isn't running: what it failed of is mended."""
        self._restart_delay.reset()
        self._next_start_at = 0.0

    def _plan(self, what: str, lived_s: float) -> None:
        delay_s = self._restart_delay.after_failure(lived_s)
        self._next_start_at = time.monotonic() + delay_s
        self._log.from_role("up", f"{what}; starting it again {f'in {delay_s:.0f} s' if delay_s else 'at once'}")


def describe_exit(code: int) -> str:
    """An exit status in words."""
    if code < 0:
        return f"was killed by {signal.Signals(-code).name}"
    return f"ended with exit code {code}"
