"""Start a child in a session of its own, and end it with everything that it started."""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import psutil


def start_child(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | None = None,
    user: tuple[int, int] | None = None,
    stdin: int = subprocess.DEVNULL,
    output: int | IO[Any] = subprocess.PIPE,
    when_orphaned: signal.Signals = signal.SIGTERM,
    umask: int = -1,
) -> subprocess.Popen[bytes]:
    """Start `command` as the leader of its own session, so that a Ctrl-C in the terminal reaches only us.

    `user` is (uid, gid) to become; `output` takes stdout and stderr; `umask` is ours by default. On Linux the child
    gets `when_orphaned` when this process dies, however it dies. Nothing relies on that: macOS has no such thing, and
    the kernel ties it to the thread that started the child, so it is asked for on the main thread only.
    """
    words = [str(word) for word in command]
    if threading.current_thread() is threading.main_thread():
        words = [*_tell_when_orphaned(when_orphaned), *words]
    identity: dict[str, Any] = {} if user is None else {"user": user[0], "group": user[1], "extra_groups": []}
    return subprocess.Popen(
        words,
        stdin=stdin,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=dict(env),
        cwd=cwd,
        start_new_session=True,
        umask=umask,
        **identity,
    )


def signal_group(pid: int, signal_number: signal.Signals) -> None:
    """Signal the process group that `pid` leads; a group that is gone is fine."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal_number)


def end_child(process: subprocess.Popen[bytes], *steps: tuple[signal.Signals, float]) -> None:
    """Send each signal in turn, waiting the given seconds for the exit, then SIGKILL the group."""
    for signal_number, patience_s in steps:
        if process.poll() is not None:
            break
        process.send_signal(signal_number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(patience_s)
    signal_group(process.pid, signal.SIGKILL)
    process.wait()


def end_process(process: psutil.Process, *steps: tuple[signal.Signals, float]) -> None:
    """Like `end_child`, for a process that isn't our child: an earlier run left it behind.

    psutil compares the create time before it signals, so a pid that was given to another program is safe.
    """
    for signal_number, patience_s in (*steps, (signal.SIGKILL, 5.0)):
        with suppress(psutil.NoSuchProcess):
            process.send_signal(signal_number)
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            if not is_alive(process):
                return
            time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    """Whether the process runs. A zombie counts as ended: it holds no resources, and only its parent can reap it."""
    with suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _tell_when_orphaned(signal_number: signal.Signals) -> list[str]:
    """A command prefix that makes Linux send the signal when the parent dies (`setpriv` then execs the command).

    Not a `preexec_fn`: that is unsafe, and deprecated, in a process with threads.
    """
    program = _setpriv()
    return [program, "--pdeathsig", signal_number.name.removeprefix("SIG"), "--"] if program else []


@functools.cache
def _setpriv() -> str | None:
    program = shutil.which("setpriv")
    if program is None:
        return None
    # BusyBox has a setpriv that doesn't know the option.
    tried = subprocess.run([program, "--pdeathsig", "TERM", "--", "true"], capture_output=True, check=False)
    return program if tried.returncode == 0 else None
