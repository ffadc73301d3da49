"""A worker on a thread of this process: for tests that look into it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from storage.catalog import Model
from worker.lifecycle import Stage
from worker.process import WorkerProcess
from worker.settings import WorkerSettings


@contextmanager
def working(settings: WorkerSettings, model: Model, **more: Any) -> Iterator[WorkerProcess]:
    """A worker on a thread of its own, which leaves when the block ends."""
    process = WorkerProcess(settings, model, idle_exit_s=more.get("idle_exit_s"), bucket=more.get("bucket"))
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(process.run()), name="worker")
    thread.start()
    try:
        yield process
    finally:
        while thread.is_alive():
            if process.lifecycle.stage is not Stage.STARTING:
                process.leave()
            thread.join(timeout=5)
    assert codes == [more.get("code", 0)]
