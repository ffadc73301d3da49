"""The end of the children of `darkroom up`: who is said to have been killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cli.processes import start_child
from cli.supervision import stopping
from cli.supervision.interrupts import StopRequest
from cli.supervision.log_stream import LogStream
from cli.supervision.stale_processes import ProcessRecord
from cli.supervision.supervise import Child

IGNORES_SIGTERM = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"
)
LEAVES_WHEN_TOLD = (
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); sys.stdin.read()"
)


class LeavingAtTheLastMoment(Child):
    """It ends between the last look at it and the kill."""

    def kill(self) -> None:
        assert isinstance(self.process, subprocess.Popen)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        super().kill()


def test_only_who_was_killed_is_said_to_have_been(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stopping, "KILL_AFTER_S", 0.0)  # nobody has time to stop in
    record, log = ProcessRecord(tmp_path), LogStream()
    with subprocess.Popen(
        [sys.executable, "-c", LEAVES_WHEN_TOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as leaving:
        staying = start_child([sys.executable, "-c", IGNORES_SIGTERM], env={})
        for process in (leaving, staying):
            assert process.stdout is not None
            process.stdout.readline()  # it ignores SIGTERM by now
        children = [
            LeavingAtTheLastMoment("worker-1", leaving, record, log),
            Child("worker-2", staying, record, log),
        ]
        killed = stopping.end_children(children, StopRequest())
    assert [child.role for child in killed] == ["worker-2"]
    assert staying.returncode == -signal.SIGKILL
