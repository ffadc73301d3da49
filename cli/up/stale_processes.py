"""Which processes belong to this data folder, on disk, so that the start after a SIGKILL ends what is left."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import TypedDict

import psutil

from cli.processes import end_stranger, is_alive, signal_group


class Recorded(TypedDict):
    """A child: the leader of its own session, known by its pid together with the time of its birth."""

    role: str
    pid: int
    create_time: float


class ProcessRecord:
    """The children that run now. Written before anything else is done with a new child."""

    def __init__(self, run_folder: Path) -> None:
        self._path = run_folder / "processes.json"
        self._children: dict[int, Recorded] = {}

    def add(self, role: str, pid: int) -> None:
        with suppress(psutil.NoSuchProcess):
            create_time = psutil.Process(pid).create_time()
            self._children[pid] = {"role": role, "pid": pid, "create_time": create_time}
            self._note()

    def remove(self, pid: int) -> None:
        if self._children.pop(pid, None) is not None:
            self._note()

    def end_leftovers(self) -> list[str]:
        """End what an earlier run left behind, each with its whole session; returns the roles that were found."""
        found = []
        for recorded in self._read():
            if members := _living_members(recorded):
                found.append(recorded["role"])
                for member in members:
                    end_stranger(member, (signal.SIGTERM, 2.0))
                signal_group(recorded["pid"], signal.SIGKILL)
        self._write()
        return found

    def _read(self) -> list[Recorded]:
        try:
            children: list[Recorded] = json.loads(self._path.read_text())
        except (FileNotFoundError, ValueError):
            return []
        return children

    def _note(self) -> None:
        with suppress(OSError):  # a full disk must not stop us from looking after the children
            self._write()

    def _write(self) -> None:
        unfinished = self._path.with_suffix(".new")
        unfinished.write_text(json.dumps(list(self._children.values())))
        unfinished.rename(self._path)


def _living_members(recorded: Recorded) -> list[psutil.Process]:
    """The recorded process and all in its session: gunicorn's workers outlive their killed master for a while."""
    pid = recorded["pid"]
    with suppress(psutil.NoSuchProcess):
        leader = psutil.Process(pid)
        if abs(leader.create_time() - recorded["create_time"]) > 0.1:
            return []  # the pid was given to somebody else
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError, PermissionError):
            belongs = process.pid == pid or os.getsid(process.pid) == pid
            if belongs and process.create_time() >= recorded["create_time"] - 0.1 and is_alive(process):
                members.append(process)
    return members
