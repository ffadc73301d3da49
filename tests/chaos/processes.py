"""One process of a role: started, killed, frozen, told to stop, and started again after a moment."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import psutil

from cli.processes import end_child, signal_group, start_child
from storage.crash_points import CrashPoint

START_AGAIN_AFTER_S = 0.3
REPOSITORY = Path(__file__).parents[2]


class RoleProcess:
    """`darkroom ROLE …`, which always runs again. `on_death(pid, time.time(), exit code)` hears of every end."""

    def __init__(
        self,
        name: str,
        words: list[str],
        env: Mapping[str, str],
        log: Path,
        *,
        on_death: Callable[[RoleProcess, int, float, int], None],
    ) -> None:
        self.name = name
        self.frozen = False
        self.armed: CrashPoint | None = None  # it will die there
        self.killed_at: float | None = None  # time.time(), where we sent SIGKILL
        self._words = words
        self._env = env
        self._log = log
        self._on_death = on_death
        self._start_at = 0.0
        self._arm_next: tuple[CrashPoint, int] | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        env = dict(self._env)
        self.armed = None
        if self._arm_next is not None:
            self.armed, nth = self._arm_next
            env["DARKROOM_CRASH_AT"] = f"{self.armed}:{nth}"
            self._arm_next = None
        self.frozen = False
        self.killed_at = None
        with self._log.open("ab") as log:
            self.process = start_child(
                [sys.executable, "-m", "cli.main", *self._words], env=env, cwd=REPOSITORY, output=log
            )

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def tick(self) -> None:
        """See whether it died, and start it again when its time has come."""
        if self.process is not None and (code := self.process.poll()) is not None:
            pid, self.process = self.process.pid, None
            signal_group(pid, signal.SIGKILL)
            self._on_death(self, pid, self.killed_at or time.time(), code)
            self._start_at = time.monotonic() + START_AGAIN_AFTER_S
        if self.process is None and time.monotonic() >= self._start_at:
            self.start()

    def kill(self, *, arm: tuple[CrashPoint, int] | None = None) -> bool:
        """SIGKILL; the next one of it is armed with a crash point, if one is given."""
        self._arm_next = arm
        self.killed_at = time.time()
        return self._signal(signal.SIGKILL)

    def kill_child(self, which: int) -> bool:
        """SIGKILL to one of the processes that it has started; False if there is none."""
        if not self.is_running:
            return False
        assert self.process is not None
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(self.process.pid).children()
            if children:
                children[which % len(children)].kill()
                return True
        return False

    def terminate(self) -> bool:
        self.thaw()
        return self._signal(signal.SIGTERM)

    def freeze(self) -> bool:
        self.frozen = self._signal(signal.SIGSTOP)
        return self.frozen

    def thaw(self) -> None:
        if self.frozen:
            self._signal(signal.SIGCONT)
            self.frozen = False

    def end(self, patience_s: float = 8.0) -> None:
        """For good."""
        self.thaw()
        if self.process is not None:
            end_child(self.process, (signal.SIGTERM, patience_s))

    def _signal(self, number: signal.Signals) -> bool:
        if not self.is_running:
            return False
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        return True


def clean_environment() -> dict[str, str]:
    """Ours, without the settings of somebody's own deployment."""
    ours = ("DATABASE_", "S3_", "PUBLIC_URL", "MODELS", "WEBHOOK_", "DARKROOM_", "API_", "SECRET_KEY", "RETENTION_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return env | {"PYTHONPATH": str(REPOSITORY), "PYTHONUNBUFFERED": "1"}
