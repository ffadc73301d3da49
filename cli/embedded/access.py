"""Who an embedded Postgres runs as, and that this account can reach its files. Matters for root only."""

from __future__ import annotations

import logging
import os
import pwd
import stat
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from cli.embedded.errors import EmbeddedServerError

log = logging.getLogger(__name__)

ACCOUNT = "embedded_postgres"


def server_account(data: Path | None) -> tuple[int, int] | None:
    """(uid, gid) that the server has to run as: None for ourselves, which is everybody's case but root's.

    For root it is the owner of `data`, or, where there is none yet, a system account made for it.
    """
    if os.getuid() != 0:
        return None
    if data is not None and (owner := data.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    for _ in range(5):
        with suppress(KeyError):
            account = pwd.getpwnam(ACCOUNT)
            return account.pw_uid, account.pw_gid
        with suppress(OSError):
            command = [
                "useradd",
                "--system",
                "--user-group",
                "--no-create-home",
                "--shell",
                "/bin/false",
                ACCOUNT,
            ]
            if subprocess.run(command, capture_output=True, check=False).returncode != 0:
                time.sleep(0.2)  # another one may be making it
    raise EmbeddedServerError(
        f"Postgres refuses to run as root, and the account {ACCOUNT} couldn't be made for it:"
        " run darkroom as an ordinary user, or set DATABASE_URL to a Postgres of your own."
    )


def open_the_way(path: Path, account: tuple[int, int]) -> None:
    """Let the account pass through the folders above `path` and into it: x for others, never r or w."""
    uid, gid = account
    for folder in (path, *path.parents):
        found = folder.stat()
        if found.st_uid == uid:
            passable = bool(found.st_mode & stat.S_IXUSR)
        elif found.st_gid == gid:
            passable = bool(found.st_mode & stat.S_IXGRP)
        else:
            passable = bool(found.st_mode & stat.S_IXOTH)
        if not passable:
            folder.chmod(stat.S_IMODE(found.st_mode) | stat.S_IXOTH)
            log.warning("let other users pass through %s (not read it): Postgres runs as its own user", folder)


def open_the_programs(installation: Path, account: tuple[int, int]) -> None:
    """Let the account run Postgres where it was installed for root's eyes only (a strict umask)."""
    found = (installation / "bin" / "postgres").stat()
    if found.st_uid == account[0] or found.st_mode & stat.S_IXOTH:
        return
    for path in (installation, *installation.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))
    log.warning("let other users read and run %s: Postgres runs as its own user", installation)
