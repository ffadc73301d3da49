"""Data folders that another user of the machine has put where we work, to get our token or to have us end processes."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from cli.supervision.stale_processes import Recorded, _boot, _started

NOBODY = 65534
DARKROOM = str(Path(sys.executable).parent / "darkroom")

pytestmark = pytest.mark.skipif(os.getuid() != 0, reason="only root can give a file to another user")


@pytest.fixture
def thief() -> Iterator[tuple[str, list[str]]]:
    """A server of the other user, and the tokens that it was sent."""
    stolen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stolen.append(self.headers.get("Authorization", ""))
            self.send_error(404)

        do_POST = do_DELETE = do_GET  # noqa: N815 - http.server's names

        def log_message(self, *args: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", stolen
        server.shutdown()


def plant(shared: Path, url: str, victim: int) -> None:
    """`.darkroom` as that of a `darkroom up`, whose API is at `url` and which has left the process `victim` behind."""
    data = shared / ".darkroom"
    run = data / "run"
    run.mkdir(parents=True)
    (run / "url").write_text(url)
    settings = {"DATABASE_URL": url.replace("http", "postgresql"), "PUBLIC_URL": url, "MODELS": "/nowhere"}
    (run / "settings.json").write_text(json.dumps({"settings": settings, "is_own_database": False}))
    (run / "catalog").write_text("/nowhere")
    left = Recorded(role="api", pid=victim, started=_started(victim), boot=_boot())
    (run / "processes.json").write_text(json.dumps([asdict(left)]))
    (data / "secret-key").write_text("f" * 64)
    for path in (data, *data.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
        os.chown(path, NOBODY, NOBODY)


def test_a_folder_that_another_user_put_here_gets_no_token_and_ends_no_process(
    tmp_path: Path, thief: tuple[str, list[str]]
) -> None:
    url, stolen = thief
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "DARKROOM_"))}
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as victim:
        try:
            plant(tmp_path, url, victim.pid)
            before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
            for command in ("list", "doctor", "queues", "tokens create x", "up --port 0"):
                run = subprocess.run(
                    [DARKROOM, *command.split()],
                    cwd=tmp_path,
                    env=clean | {"DARKROOM_TOKEN": "dr_secret"},
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    timeout=120,
                    check=False,
                )
                assert (run.returncode, "belongs to nobody" in run.stderr) == (2, True), (command, run)
            assert victim.poll() is None
            assert stolen == []
            assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
        finally:
            victim.kill()
