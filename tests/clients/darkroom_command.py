"""The `darkroom` command of a client, in a process of its own against a running service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.support.serving import Service

DARKROOM = str(Path(sys.executable).parent / "darkroom")


def environment_of(service: Service, *, token: str = "", **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("DARKROOM_", "DATABASE_"))}
    return kept | {"DARKROOM_URL": service.url, "DARKROOM_TOKEN": token} | more


def darkroom(service: Service, folder: Path, *words: str, token: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [DARKROOM, *words],
        cwd=folder,
        env=environment_of(service, token=token),
        capture_output=True,
        timeout=120,
        check=False,
    )


def text_of(done: subprocess.CompletedProcess[bytes]) -> str:
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().strip()
