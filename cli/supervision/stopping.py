"""The end of `darkroom up`: everybody is asked, then told, then ended, all within 10 s."""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence

from cli.supervision.interrupts import StopRequest
from cli.supervision.supervise import Child

TICK_S = 0.02
# A worker hands its drawing back at the second SIGTERM. With 4 s for the servers afterwards we stay below 10 s.
ASK_AGAIN_AFTER_S = 3.5
KILL_AFTER_S = 5.5
KILL_AFTER_IN_A_HURRY_S = 1.0


def end_children(children: Sequence[Child], stop: StopRequest) -> list[Child]:
    """Stop them, in the given order; returns those that had to be killed. A second Ctrl-C hurries."""
    asked_before = stop.count
    began = time.monotonic()
    kill_at = began + KILL_AFTER_S
    asked_again = False
    for child in children:
        child.terminate()
    while waiting := [child for child in children if child.exit_code() is None]:
        now = time.monotonic()
        if now >= kill_at:
            break
        if not asked_again and (stop.count > asked_before or now - began >= ASK_AGAIN_AFTER_S):
            asked_again = True
            if stop.count > asked_before:
                kill_at = min(kill_at, now + KILL_AFTER_IN_A_HURRY_S)
            for child in waiting:
                child.terminate()
        time.sleep(TICK_S)
    for child in waiting:
        child.kill()
    for child in waiting:
        child.process.wait()
        child.exit_code()
    # Who left by itself in the last moment was not killed.
    return [child for child in waiting if child.process.returncode == -signal.SIGKILL]
