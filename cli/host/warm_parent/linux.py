"""What Linux offers to a process that forks others, and Python doesn't: by `prctl(2)` and `/proc`."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Sequence
from pathlib import Path

PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36
# Fields of /proc/self/stat (proc(5)), counted from the one after the name.
PARENT, SESSION, ARG_START, ARG_END = 1, 3, 45, 46


def adopt_orphans() -> None:
    """From now on, processes below us whose parent ends become our children. Raises OSError."""
    _prctl(PR_SET_CHILD_SUBREAPER, 1)


def reap_orphans() -> None:
    """Clear away adopted processes that have ended, all but those that lead a session: we know and await these."""
    us, our_session = os.getpid(), os.getsid(0)
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        pid = int(entry.name)
        try:
            state, parent, session = _state_parent_session(pid)
        except OSError:  # gone meanwhile
            continue
        if state == "Z" and parent == us and session not in (pid, our_session):
            os.waitpid(pid, os.WNOHANG)


def end_with_parent(number: signal.Signals) -> None:
    """Have the kernel send us this signal when our parent dies, however it dies. Raises OSError."""
    _prctl(PR_SET_PDEATHSIG, number)


def set_command_line(words: Sequence[str]) -> None:
    """What `ps` shows of this process from now on, cut to the length of what it shows now."""
    fields = _stat(os.getpid())
    start, end = int(fields[ARG_START]), int(fields[ARG_END])
    if 0 < start < end:
        text = "\0".join(words).encode()[: end - start - 1]
        ctypes.memmove(start, text.ljust(end - start, b"\0"), end - start)


def native_threads() -> list[str]:
    """The names of this process's threads, also those that Python doesn't know."""
    return sorted(task.joinpath("comm").read_text().strip() for task in Path("/proc/self/task").iterdir())


def open_devices() -> list[str]:
    """The files of GPU drivers that this process has open."""
    found = set()
    for file in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(file)
        except OSError:  # the one that lists the folder
            continue
        if target.startswith(("/dev/nvidia", "/dev/kfd", "/dev/dri")):
            found.add(target)
    return sorted(found)


def _state_parent_session(pid: int) -> tuple[str, int, int]:
    fields = _stat(pid)
    return fields[0], int(fields[PARENT]), int(fields[SESSION])


def _stat(pid: int) -> list[str]:
    """Raises OSError when there is no such process."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


def _prctl(option: int, value: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
