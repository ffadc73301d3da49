"""Turns the machine off when no worker has run for long enough: a rented VM costs money until it is off."""

from __future__ import annotations

import shutil
import subprocess
import time

from cli.supervision.log_stream import LogStream
from storage.errors import OperatorError

TRY_AGAIN_AFTER_S = 60.0
TIMEOUT_S = 30.0


class PowerOff:
    """`systemctl poweroff` after `idle_s`. Making one raises OperatorError if there is no systemctl."""

    def __init__(self, idle_s: float, log: LogStream) -> None:
        program = shutil.which("systemctl")
        if program is None:
            raise OperatorError("--power-off needs systemctl, and there is none on this machine.")
        self._program = program
        self._idle_s = idle_s
        self._log = log
        self._idle_since = time.monotonic()

    def tick(self, *, is_idle: bool) -> None:
        """Call it often. `is_idle`: no worker runs, and nothing waits as far as is known."""
        now = time.monotonic()
        if not is_idle:
            self._idle_since = now
        elif now - self._idle_since >= self._idle_s:
            self._idle_since = now - self._idle_s + TRY_AGAIN_AFTER_S
            self._log.from_role("host", f"idle for {self._idle_s:g} s: turning the machine off")
            self._turn_off()

    def _turn_off(self) -> None:
        try:
            done = subprocess.run(
                [self._program, "poweroff"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
            )
            reason = done.stderr.strip() if done.returncode else ""
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        if reason:
            self._log.from_role("host", f"the machine can't be turned off, trying again in a minute: {reason}")
