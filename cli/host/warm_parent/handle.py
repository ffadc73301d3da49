"""A process that has imported everything and touched no device, from which workers are forked in milliseconds.

Importing torch, diffusers and transformers takes most of the time that a new worker needs to start. Linux only: it
needs subreapers, and forking a process that has loaded Apple's frameworks isn't safe.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from cli.host.warm_parent.code_version import code_version
from cli.host.warm_parent.linux import adopt_orphans, reap_orphans
from cli.host.warm_parent.process import EXIT_CANT_BE_WARM
from cli.supervision.forked_process import ForkedProcess
from cli.supervision.launch import start_role
from cli.supervision.log_stream import LogStream
from cli.supervision.stale_processes import ProcessRecord
from cli.supervision.supervise import Child, RestartDelay, describe_exit

NAME = "warm"
LOOK_EVERY_S = 5.0  # at the code, and for orphans
ANSWER_WITHIN_S = 5.0
LONGEST_ANSWER_BYTES = 4096
# A forked worker's command line is written over its parent's: `darkroom worker --model … --idle-exit …`.
SPARE = "-" * 200
# OpenBLAS (in numpy) starts a thread for each further core when it is imported. With this, no thread runs at the fork.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1"}


def is_possible() -> bool:
    return sys.platform == "linux"


class WarmParent:
    """Keeps one warm parent running. Its main-thread methods return at once, but for `fork`."""

    def __init__(
        self, env: Mapping[str, str], models: Path, record: ProcessRecord, log: LogStream, *, name: str
    ) -> None:
        """`name`: who says in the log what becomes of it."""
        self._env = {**env, **ONE_THREAD}
        self._models = models
        self._record = record
        self._log = log
        self._name = name
        self.child: Child | None = None
        self._orders: socket.socket | None = None
        self._is_ready = False
        self._is_off = False
        self._code = 0
        self._restart_delay = RestartDelay()
        self._start_at = 0.0
        self._look_at = 0.0

    def tick(self) -> None:
        """Start it, see whether it is ready or dead, and replace it when the code has changed. Main thread only."""
        now = time.monotonic()
        if self.child is not None and (code := self.child.exit_code()) is not None:
            self._note_end(code)
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            reap_orphans()
            self._end_if_outdated()
        if self.child is None and not self._is_off and now >= self._start_at:
            self._start()
        if self.child is not None and not self._is_ready:
            self._look_whether_ready()

    def fork(self, *words: str, env: Mapping[str, str] | None = None) -> ForkedProcess | None:
        """`darkroom WORDS` as a child of ours. None: the parent isn't ready, or doesn't answer; start it otherwise."""
        if not self._is_ready or self._orders is None or self._end_if_outdated():
            return None
        reading, writing = os.pipe()
        by = time.monotonic() + ANSWER_WITHIN_S  # the same clock in all processes
        order = {"words": words, "env": dict(env or {}), "parent": os.getpid(), "by": by}
        answer: dict[str, object] = {}
        try:
            socket.send_fds(self._orders, [json.dumps(order).encode()], [writing])
            self._orders.settimeout(ANSWER_WITHIN_S)
            answer = json.loads(self._orders.recv(LONGEST_ANSWER_BYTES) or b"{}")
        except OSError as error:
            answer = {"error": f"the warm parent doesn't answer: {error}"}
            self._end()  # a late answer would be taken for the next one
        finally:
            os.close(writing)
        pid = answer.get("pid")
        if isinstance(pid, int):
            return ForkedProcess(pid, open(reading, "rb"))
        os.close(reading)
        self._log.from_role(
            self._name, f"a worker is started without the warm parent: {answer.get('error', 'it has ended')}"
        )
        return None

    def _start(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._code = code_version(self._models)
        try:
            adopt_orphans()
            process = start_role("warm-parent", "--spare", SPARE, env=self._env, stdin=theirs.fileno())
        except OSError as error:
            ours.close()
            self._plan(f"the warm parent can't be started: {error}", 0.0)
            return
        finally:
            theirs.close()
        self._orders = ours
        self.child = Child(NAME, process, self._record, self._log)

    def _look_whether_ready(self) -> None:
        assert self._orders is not None
        self._orders.setblocking(False)
        with suppress(OSError):  # nothing yet, or it has died, which the next tick sees
            message = self._orders.recv(LONGEST_ANSWER_BYTES)
            if message:
                told = json.loads(message)
                self._is_ready = True
                self._log.from_role(
                    NAME,
                    f"workers are forked from now on: imports took {told['ready_after_s']:.1f} s,"
                    f" {told['memory_bytes'] / 1e6:.0f} MB of memory, no device used",
                )

    def _end_if_outdated(self) -> bool:
        """Whether the code has changed since the parent has read it. Then it ends, and another one starts."""
        if self.child is None or self._code == code_version(self._models):
            return False
        self._log.from_role(self._name, "the code has changed: the warm parent starts again")
        self._end()
        return True

    def _end(self) -> None:
        """Kill it; `tick` starts the next one. Its workers are our children and go on."""
        self._is_ready = False
        if self.child is not None:
            self.child.kill()

    def _note_end(self, code: int) -> None:
        assert self.child is not None
        lived_s = self.child.lived_s
        self.child, self._is_ready = None, False
        if self._orders is not None:
            self._orders.close()
            self._orders = None
        if code == EXIT_CANT_BE_WARM:  # it has said why
            self._is_off = True
        elif code != -signal.SIGKILL or lived_s < 1.0:
            self._plan(f"the warm parent {describe_exit(code)}", lived_s)

    def _plan(self, what: str, lived_s: float) -> None:
        delay_s = self._restart_delay.after_failure(lived_s)
        self._start_at = time.monotonic() + delay_s
        self._log.from_role(self._name, f"{what}; starting it again in {delay_s:.0f} s")
