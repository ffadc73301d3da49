"""The end of a worker's process: once it has left, Python does not take it apart."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from storage.postgres.database import Connection
from storage.settings import Settings
from tests.conftest import REPOSITORY
from tests.integration.worker_running import worker
from tests.support.eventually import eventually
from tests.support.making import count

WITNESS = """
import atexit, os
class Witness:
    def __del__(self, mkdir=os.mkdir):
        mkdir({torn!r})
witness = Witness()
atexit.register(os.mkdir, {ended!r})
"""


def test_what_is_to_be_done_at_the_end_is_done_and_nothing_is_taken_apart(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    """Under `darkroom up` a worker that had left was killed for it: torch takes seconds to be taken apart."""
    torn, ended = tmp_path / "torn", tmp_path / "ended"
    (tmp_path / "sitecustomize.py").write_text(WITNESS.format(torn=str(torn), ended=str(ended)))
    path = os.pathsep.join([str(tmp_path), str(REPOSITORY)])
    with worker(settings, tmp_path, PYTHONPATH=path) as process:
        eventually(lambda: count(conn, "workers", "state = 'idle'") == 1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    assert ended.exists()
    assert not torn.exists()
