"""Which processes belong to this data folder, on disk, so that the start after a SIGKILL ends what is left."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from cli.processes import end_process, is_alive, signal_group

BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
SAME_START_S = 0.1


@dataclass(frozen=True)
class Recorded:
    """A child: the leader of its own session, known by its pid together with the time when it was started."""

    role: str
    pid: int
    started: float  # see `_started`
    boot: str  # the boot of the machine that `started` counts from


class ProcessRecord:
    """The children that run now. Written before anything else is done with a new child."""

    def __init__(self, run_folder: Path) -> None:
        self._path = run_folder / "processes.json"
        self._children: dict[int, Recorded] = {}

    def add(self, role: str, pid: int) -> None:
        with suppress(psutil.NoSuchProcess):
            self._children[pid] = Recorded(role, pid, _started(pid), _boot())
            self._note()

    def remove(self, pid: int) -> None:
        if self._children.pop(pid, None) is not None:
            self._note()

    def end_leftovers(self) -> list[str]:
        """End what an earlier run left behind, each with its whole session; returns the roles that were found."""
        found = []
        for recorded in self._read():
            if recorded.boot == _boot() and (members := _living_members(recorded)):
                found.append(recorded.role)
                for member in members:
                    end_process(member, (signal.SIGTERM, 2.0))
                signal_group(recorded.pid, signal.SIGKILL)
        self._write()
        return found

    def _read(self) -> list[Recorded]:
        try:
            return [Recorded(**child) for child in json.loads(self._path.read_text())]
        except (FileNotFoundError, ValueError, TypeError):  # TypeError: another release has written it
            return []

    def _note(self) -> None:
        with suppress(OSError):  # a full disk must not stop us from looking after the children
            self._write()

    def _write(self) -> None:
        unfinished = self._path.with_suffix(".new")
        unfinished.write_text(json.dumps([asdict(child) for child in self._children.values()]))
        unfinished.rename(self._path)


def _living_members(recorded: Recorded) -> list[psutil.Process]:
    """The recorded process and all in its session: gunicorn's workers outlive their killed master for a while."""
    pid = recorded.pid
    with suppress(psutil.NoSuchProcess):
        if abs(_started(pid) - recorded.started) > SAME_START_S:
            return []  # the pid belongs to another process now
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError, PermissionError):
            belongs = process.pid == pid or os.getsid(process.pid) == pid
            if belongs and _started(process.pid) >= recorded.started - SAME_START_S and is_alive(process):
                members.append(process)
    return members


def _started(pid: int) -> float:
    """When a process was started, in seconds. Raises psutil.NoSuchProcess.

    On Linux since the boot (`starttime` of proc(5)), which setting the clock doesn't change. psutil's create_time()
    adds the time of the boot, which moves with the clock. Elsewhere since the epoch.
    """
    if not BOOT_ID.exists():
        return psutil.Process(pid).create_time()
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        raise psutil.NoSuchProcess(pid) from None
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def _boot() -> str:
    return BOOT_ID.read_text().strip() if BOOT_ID.exists() else ""
