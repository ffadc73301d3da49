"""Named places at which a process kills itself, so that a test can have it die exactly there.

`DARKROOM_CRASH_AT=after-upload:3` kills this process with SIGKILL when it gets there for the third time. Unset, as
in every deployment, a place costs one comparison. It is read at import and is no setting: nobody may configure it.
"""

from __future__ import annotations

import os
import signal
import threading
from typing import Literal

CrashPoint = Literal[
    "after-claim",  # the claim is committed, and only the row knows it
    "mid-step",  # a denoising step is half done
    "after-upload",  # the image is in the bucket, and nothing is committed
    "after-commit",  # the result is committed, and its webhook is not sent
    "before-post",  # a courier holds a delivery, and has sent nothing
    "during-post",  # the request is sent, and the answer not read
]

_place, _, _times = os.environ.get("DARKROOM_CRASH_AT", "").partition(":")
_left = int(_times or 1)
_lock = threading.Lock()


def reach(place: CrashPoint) -> None:
    """Die here, if this is the place and this is the time."""
    global _left
    if place != _place:
        return
    with _lock:
        _left -= 1
        if _left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
