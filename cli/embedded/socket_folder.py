"""The folder for the socket of an embedded Postgres: a short path that no other user can enter."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from pathlib import Path

from cli.embedded.errors import EmbeddedServerError

# A comma separates folders in Postgres's settings and hosts in a connection string; a backslash escapes in the former.
SEPARATORS = ",\\\n"
LONGEST_SOCKET_PATH = 103  # macOS allows 103 bytes, Linux 107


def cluster_name(folder: Path) -> str:
    """A name that belongs to this folder alone, for the titles of the server's processes."""
    return "darkroom-" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def socket_folder(folder: Path) -> Path:
    """Inside the data folder; among the temporary files if that path is too long, or has a separator in it.

    The name follows from the folder, so that the start after a crash finds and clears the old one.
    """
    inside = folder / "socket"
    fits = len(os.fsencode(inside / ".s.PGSQL.5432")) <= LONGEST_SOCKET_PATH
    if fits and not any(character in str(inside) for character in SEPARATORS):
        return inside
    temporary = Path(tempfile.gettempdir())
    if len(os.fsencode(temporary)) > 50:
        temporary = Path("/tmp")  # noqa: S108 - the folder in it is made with mode 0700 and checked to be ours
    return temporary / f"{cluster_name(folder)}-{os.getuid()}"


def make_socket_folder(folder: Path, account: tuple[int, int] | None) -> None:
    """Create the folder with mode 0700, or use an existing one. Refuses a folder of another user."""
    owner = os.getuid() if account is None else account[0]
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in {owner, os.getuid()}:
            raise EmbeddedServerError(
                f"{folder} belongs to another user: remove it, or set TMPDIR to a folder of your own."
            ) from None
    folder.chmod(0o700)
    if account is not None:
        os.chown(folder, *account, follow_symlinks=False)


def remove_socket_folder(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
