"""A Postgres that archives its WAL as docs/deploy.md says, and what restores another one from that to a moment."""

from __future__ import annotations

import os
import shutil
from datetime import datetime
from pathlib import Path

import psycopg

from cli.embedded import EmbeddedPostgres
from cli.embedded.access import server_account
from tests.support.backups import documented_settings, run_documented
from tests.support.eventually import eventually
from tests.support.replicated_postgres import ReplicatingPostgres

BACKUPS = "/backups"  # the folder in the documented settings
MOMENT = "2026-11-27 03:14:00+00"  # the moment in them


class ArchivingPostgres(ReplicatingPostgres):
    """Its backups are in `backups`: the WAL in `wal`, the copy of its files in `base`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.backups = folder / "backups"

    def copy_files(self) -> None:
        """The base backup."""
        run_documented("pg_basebackup", self.backups, self.url)

    def archive_everything(self) -> None:
        """Return when the archive has all that is committed."""
        with psycopg.connect(self.url, autocommit=True) as conn:
            found = conn.execute("SELECT pg_walfile_name(pg_switch_wal())").fetchone()
        assert found is not None
        eventually((self.backups / "wal" / found[0]).exists, explain=self.log.read_text)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        self.end_leftovers()

    def _configure(self, account: tuple[int, int] | None) -> None:
        super()._configure(account)
        wal = self.backups / "wal"
        wal.mkdir(parents=True, exist_ok=True)
        if account is not None:
            os.chown(wal, *account)
        with (self.data / "postgresql.conf").open("a") as settings:
            settings.write(documented_settings("archive_mode").replace(BACKUPS, str(self.backups)))


def start_at(moment: datetime, restored: EmbeddedPostgres, backups: Path) -> None:
    """Start `restored`, which has no files yet, with the state of that moment. Returns when it takes writes."""
    restored.folder.mkdir(mode=0o755, parents=True)
    shutil.copytree(backups / "base", restored.data)
    settings = documented_settings("restore_command").replace(BACKUPS, str(backups))
    assert MOMENT in settings
    with (restored.data / "postgresql.auto.conf").open("a") as file:
        file.write(settings.replace(MOMENT, moment.isoformat()))
    (restored.data / "recovery.signal").touch()
    restored.data.chmod(0o700)
    account = server_account(backups / "wal")
    if account is not None:
        for path in (restored.data, *restored.data.rglob("*")):
            os.chown(path, *account)
    restored.start()
    eventually(lambda: _takes_writes(restored), explain=restored.log.read_text)


def _takes_writes(server: EmbeddedPostgres) -> bool:
    with psycopg.connect(server.url) as conn:
        return conn.execute("SELECT pg_is_in_recovery()").fetchone() == (False,)
