"""SeaweedFS puts a socket beside each gRPC port into /tmp, has no option for where, and leaves some there."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

SERVERS = ("master", "volume", "filer", "s3")
FOLDER = Path("/tmp")  # noqa: S108 - not our choice
# Between its making and its first listening, a socket of a server that starts looks dead as well.
STARTED_BY_THEN_S = 60.0


def sockets_of(options: Sequence[str]) -> list[Path]:
    """Those of the server with these words on its command line."""
    paths = []
    for option in options:
        name, _, port = option.removeprefix("-").partition(".port.grpc=")
        if name in SERVERS and port.isdigit():
            paths.append(FOLDER / f"seaweedfs-{name}-grpc-{port}.sock")
    return paths


def sweep_dead_sockets() -> None:
    """Remove sockets without a listener. Killed servers left them, and their ports are no longer known."""
    for path in FOLDER.glob("seaweedfs-*-grpc-*.sock"):
        with suppress(OSError):  # it belongs to another user, or another process has removed it
            if time.time() - path.lstat().st_mtime > STARTED_BY_THEN_S and path.is_socket() and _is_dead(path):
                path.unlink()


def _is_dead(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(1.0)
        try:
            client.connect(str(path))
        except ConnectionRefusedError:
            return True
    return False
