"""Drains a worker: finishes the current drawings, hands back the other predictions, and publishes the images."""

from __future__ import annotations

import threading
import time

import structlog

from worker.batching.scheduler import BatchScheduler
from worker.claims.leases import Leases
from worker.lifecycle import Lifecycle
from worker.publish.results import Results

log = structlog.get_logger(__name__)

# Publishing stops by itself when the time is up, unless it waits for an S3 server that neither answers nor refuses.
HANGS_AFTER_S = 2.0


def drain_scheduler(
    scheduler: BatchScheduler, drawing: threading.Thread, results: Results, leases: Leases, lifecycle: Lifecycle
) -> bool:
    """Return when nothing is held any more, at the latest HANGS_AFTER_S after the grace period.

    False: a thread still waits for S3, and Python would wait for that thread. The process has to end by `os._exit`.
    """
    scheduler.leave_by(lifecycle.leave_by)
    drawing.join()
    for attempt in scheduler.unfinished():
        results.on_unfinished(attempt)
    return _publish_the_rest(results, leases, lifecycle)


def _publish_the_rest(results: Results, leases: Leases, lifecycle: Lifecycle) -> bool:
    closing = threading.Thread(target=results.close, name="closing", daemon=True)
    closing.start()
    while closing.is_alive() and time.monotonic() < lifecycle.leave_by + HANGS_AFTER_S:  # a second SIGTERM moves it
        closing.join(0.1)
    if not closing.is_alive():
        return True
    for attempt in leases.held():
        log.warning("publish.hangs", **attempt.names)
        results.hand_back_now(attempt)
    return False
