"""Stop signals reach a worker whatever its main thread does. Each case is a real process."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

HEAD = """
import sys, time
from worker.stop_signals import StopSignals, leave_now
signals = StopSignals()
signals.listen()

def ready():
    sys.stdout.write("ready\\n")
    sys.stdout.flush()
"""
# A query that never ends: SQLite works without the interpreter's lock, and looks at no signal.
HANG_IN_C = """
import sqlite3
ready()
sqlite3.connect(":memory:").execute(
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
).fetchone()
"""


def started(program: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + program],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and what it printed after `ready`."""
    try:
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    return process.returncode, output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_process_that_hangs_in_c_code_leaves_with_0(number: signal.Signals) -> None:
    process = started(HANG_IN_C)
    process.send_signal(number)
    assert ended(process) == (0, "")


def test_a_goodbye_is_said_first_and_one_that_hangs_or_breaks_is_cut_off() -> None:
    said = 'signals.call(lambda: leave_now(lambda: print("goodbye")))'
    hangs = 'signals.call(lambda: leave_now(lambda: (print("begun", flush=True), time.sleep(600))))'
    breaks = 'signals.call(lambda: leave_now(lambda: (print("tried"), 1 / 0)))'
    for goodbye, output in ((said, "goodbye\n"), (breaks, "tried\n"), (hangs, "begun\n")):
        process = started(f"{goodbye}\n{HANG_IN_C}")
        process.send_signal(signal.SIGTERM)
        assert ended(process) == (0, output)


def test_each_signal_is_heard_also_after_a_reaction_that_failed() -> None:
    process = started(
        """
heard = []
def react():
    heard.append(1)
    ready()
    if len(heard) == 1:
        raise OSError("the first one fails")
    if len(heard) == 3:
        leave_now()
signals.call(react)
ready()
while True:
    time.sleep(1)
"""
    )
    assert process.stdout is not None
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
        assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert ended(process) == (0, "ready\n")
