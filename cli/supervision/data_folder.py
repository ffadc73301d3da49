"""The folder of one `darkroom up`: its lock, its keys, and where each part keeps its data."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cli.private_files import make_private_folder, require_ours
from storage.errors import OperatorError

OURS = {
    "run",
    "postgres",
    "s3",
    "s3-keys.json",
    "secret-key",
    "database-password",
    ".gitignore",
}  # what a data folder holds
NEEDED_SPACE_MB = 200  # a new Postgres cluster with its write-ahead log takes half of it


@dataclass(frozen=True)
class S3Keys:
    access_key_id: str
    secret_access_key: str

    def __repr__(self) -> str:
        return "S3Keys(…)"


class DataFolder:
    """Held by one `darkroom up` at a time, from `open` until the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path.resolve()
        self.run = self.path / "run"
        self.postgres = self.path / "postgres"
        self.s3 = self.path / "s3"
        self._catalog_note = self.run / "catalog"
        self._url_note = self.run / "url"
        self._settings_note = self.run / "settings.json"
        self._lock: int | None = None
        self._made: list[Path] = []

    def open(self) -> None:
        """Create it where needed, closed to other users, and lock it.

        Raises OperatorError: in use, not writable, no space, or another user's.
        """
        self._made = [each for each in (self.run, self.path) if not each.exists()]
        try:
            self._require_ours()
            make_private_folder(self.run)
            if {each.name for each in self.path.iterdir()} <= OURS:  # else it is a folder for other things, too
                make_private_folder(self.path, others_pass=os.getuid() == 0)  # root's Postgres has its own account
            self._require_ours()  # another process may have created it at the same time
            self._take_lock()
            if self.path in self._made:  # it holds keys: a repository around it must not take them in
                (self.path / ".gitignore").write_text("*\n")
        except OSError as error:
            raise self._unusable(error) from error

    def close(self, *, unused: bool = False) -> None:
        """Give it back. `unused`: nothing was started, so what `open` made is removed again."""
        if self._lock is None:
            return
        for note in (self._catalog_note, self._url_note, self._settings_note):
            note.unlink(missing_ok=True)
        if unused and self.run in self._made:
            shutil.rmtree(self.run, ignore_errors=True)
            if self.path in self._made:
                (self.path / ".gitignore").unlink(missing_ok=True)
                with suppress(OSError):  # it is not empty: another process has put a file there
                    self.path.rmdir()
        os.close(self._lock)
        self._lock = None

    def note_catalog(self, catalog: Path) -> None:
        """Write down which catalog is served, for `darkroom queues`, which may be run from anywhere."""
        try:
            self._catalog_note.write_text(str(catalog))
        except OSError as error:
            raise self._unusable(error) from error

    def note_running(self, url: str, settings: dict[str, str], *, is_own_database: bool) -> None:
        """Write down where the API listens, and the settings of its roles: they hold passwords, as other files here.

        `is_own_database`: Postgres is the one in this folder.
        """
        try:
            self._url_note.write_text(url)
            self._settings_note.unlink(missing_ok=True)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
            with open(os.open(self._settings_note, flags, 0o600), "w") as file:
                json.dump({"settings": settings, "is_own_database": is_own_database}, file)
        except OSError as error:
            raise self._unusable(error) from error

    def url_in_use(self) -> str | None:
        """The API of the `darkroom up` that runs on this folder."""
        self._require_ours()
        return _text_of(self._url_note)

    def settings_in_use(self) -> dict[str, str] | None:
        """The settings of the roles of the `darkroom up` that runs on this folder."""
        self._require_ours()
        found = _text_of(self._settings_note)
        return None if found is None else dict(json.loads(found)["settings"])

    def database_in_use(self) -> str | None:
        """The database that it was given; None if it uses its own, or none runs."""
        self._require_ours()
        found = json.loads(_text_of(self._settings_note) or "{}")
        return found["settings"]["DATABASE_URL"] if found and not found["is_own_database"] else None

    def catalog_in_use(self) -> Path | None:
        """The catalog of the `darkroom up` that runs on this folder."""
        self._require_ours()
        found = _text_of(self._catalog_note)
        return None if found is None else Path(found)

    def require_space(self) -> None:
        free_mb = shutil.disk_usage(self.path).free // 1_000_000
        if free_mb < NEEDED_SPACE_MB:
            raise OperatorError(
                f"The disk of {self.path} has {free_mb} MB left and Darkroom needs {NEEDED_SPACE_MB}:"
                " free some space, or choose a folder on another disk with --data."
            )

    def s3_keys(self) -> S3Keys:
        """The keys of the embedded S3 server: random, made once, readable for us only."""
        keys = {"access_key_id": "darkroom" + secrets.token_hex(6), "secret_access_key": secrets.token_urlsafe(30)}
        return S3Keys(**json.loads(self._kept("s3-keys.json", json.dumps(keys))))

    def secret_key(self) -> str:
        """What encrypts the signing secrets in the embedded database: made once, readable for us only."""
        return self._kept("secret-key", secrets.token_hex(32))

    def database_password(self) -> str:
        """With which API, workers and courier log in to the embedded database: made once, readable for us only."""
        return self._kept("database-password", secrets.token_urlsafe(30))

    def _kept(self, name: str, first: str) -> str:
        """The text of a private file, which is `first` when it is made; never half of it. Raises OperatorError."""
        self._require_ours()
        path = self.path / name
        try:
            if not path.exists():
                unfinished = path.with_suffix(".new")
                unfinished.unlink(missing_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
                with open(os.open(unfinished, flags, 0o600), "w") as file:
                    file.write(first)
                unfinished.rename(path)
            return path.read_text()
        except OSError as error:
            raise self._unusable(error) from error

    def _require_ours(self) -> None:
        """Neither the folder nor what we keep in it is another user's. Raises OperatorError."""
        for each in (self.path, *(self.path / name for name in sorted(OURS)), *self._notes()):
            require_ours(each)

    def _notes(self) -> Iterator[Path]:
        """All that is in the run folder; nothing if it can't be listed, since then nothing in it can be read."""
        with suppress(OSError):
            yield from self.run.iterdir()

    def _take_lock(self) -> None:
        lock = os.open(self.run / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode(errors="replace").strip()
            os.close(lock)
            raise OperatorError(
                f"Another darkroom up (process {holder or 'unknown'}) uses {self.path}:"
                " stop it, or choose another folder with --data."
            ) from None
        os.ftruncate(lock, 0)
        os.write(lock, str(os.getpid()).encode())
        self._lock = lock

    def _unusable(self, error: OSError) -> OperatorError:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            return OperatorError(f"The disk of {self.path} is full: free some space and start again.")
        return OperatorError(
            f"The data folder {self.path} can't be used ({error.strerror}: {error.filename}):"
            " choose one that you may write with --data."
        )


def _text_of(note: Path) -> str | None:
    try:
        return note.read_text()
    except OSError:
        return None
