"""Files and folders that other users of the machine can't read, also when an earlier release made them readable."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

FOR_OWNER_ONLY = 0o077  # a umask


def make_private_folder(folder: Path, *, others_pass: bool = False) -> None:
    """Create the folder, or take the rights of others away from one that is there.

    `others_pass` lets them through to what is theirs inside: as root, Postgres runs as an account of its own. They
    can't list the folder either way. A folder of somebody else stays as it is.
    """
    mode = 0o711 if others_pass else 0o700
    folder.mkdir(mode=mode, parents=True, exist_ok=True)
    with suppress(PermissionError):
        folder.chmod(mode)


def make_tree_private(folder: Path) -> None:
    """Take the rights of others away from all that lies in a folder."""
    for parent, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(parent, name)
            with suppress(FileNotFoundError):  # something temporary
                mode = path.lstat().st_mode & 0o7777
                if mode & FOR_OWNER_ONLY and not path.is_symlink():
                    path.chmod(mode & ~FOR_OWNER_ONLY)


def write_private(path: Path, content: bytes) -> None:
    """Write a file anew that only its owner can read, from its first byte on."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
