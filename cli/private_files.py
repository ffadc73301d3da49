"""Files and folders that other users of the machine can't read, also when an earlier release made them readable."""

from __future__ import annotations

import os
import pwd
import stat
from contextlib import suppress
from pathlib import Path

from storage.errors import OperatorError

FOR_OWNER_ONLY = 0o077  # a umask
ROOT = 0


def require_ours(path: Path) -> None:
    """Raise OperatorError if another user owns the path, or could replace it. A path that doesn't exist is fine.

    Files that we act on (a URL that gets the token, processes to end, keys) are only as good as the folder that they
    lie in. Root is trusted, and root behind sudo trusts the user who called sudo.
    """
    try:
        found = path.lstat()
    except OSError:
        return  # it isn't there, or can't be reached, so that nothing in it is read
    if found.st_uid not in _trusted_users():
        raise OperatorError(
            f"{path} belongs to {_name_of(found.st_uid)}, and you are {_name_of(os.getuid())}: the owner of a data"
            " folder can read its pictures and your token. Name a folder of your own with --data, or run the command"
            " as its owner."
        )
    others_replace_it = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
    if stat.S_ISDIR(found.st_mode) and others_replace_it:
        raise OperatorError(
            f"Every user of this machine may write in {path}, and could replace what Darkroom keeps there:"
            f" chmod o-w {path}, or name another folder with --data."
        )


def _trusted_users() -> set[int]:
    us = os.getuid()
    behind_sudo = os.environ.get("SUDO_UID", "") if us == ROOT else ""
    return {ROOT, us, *([int(behind_sudo)] if behind_sudo.isdecimal() else [])}


def _name_of(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"user {uid}"


def make_private_folder(folder: Path, *, others_pass: bool = False) -> None:
    """Create the folder, or take the rights of others away from one that is there.

    `others_pass` lets them through to what is theirs inside: as root, Postgres runs as an account of its own. They
    can't list the folder either way. A folder of another user is not changed.
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
    """Replace a file. At no time can anyone but its owner read the new content."""
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
