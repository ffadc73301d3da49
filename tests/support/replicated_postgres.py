"""A primary and a standby that copies it synchronously, each behind a port that can be cut off."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from cli.embedded import EmbeddedPostgres
from cli.embedded.access import server_account
from cli.embedded.postgres import _binaries
from cli.processes import start_child
from tests.chaos.proxy import PostgresProxy
from tests.support.eventually import eventually


class ReplicatedPostgres:
    """`primary` and `standby` are as at the start; `url` names the ports of both."""

    def __init__(self, folder: Path) -> None:
        self.primary = EmbeddedPostgres(folder / "a")
        self.standby = EmbeddedPostgres(folder / "b")

    @contextmanager
    def running(self) -> Iterator[ReplicatedPostgres]:
        with ExitStack() as stack:
            stack.callback(self.primary.stop)
            self.primary.start()
            _allow_replication(self.primary)
            self._copy()
            stack.callback(self.standby.stop)
            self.standby.start()
            _alter(self.primary, "synchronous_standby_names = '*'")
            eventually(self._is_synchronous)
            self.ports = [PostgresProxy(server.socket_folder / ".s.PGSQL.5432") for server in self.servers]
            for port in self.ports:
                stack.callback(port.close)
            yield self

    @property
    def servers(self) -> tuple[EmbeddedPostgres, EmbeddedPostgres]:
        return self.primary, self.standby

    @property
    def url(self) -> str:
        """`postgresql://…@host1:port1,host2:port2/…`"""
        hosts = ",".join(port.url.partition("@")[2].partition("/")[0] for port in self.ports)
        return f"postgresql://postgres@{hosts}/postgres?sslmode=disable&gssencmode=disable"

    def kill_primary(self) -> None:
        self.primary.process.kill()
        self.primary.process.wait()
        self.primary.end_leftovers()

    def promote_standby(self) -> None:
        """Returns when it takes writes."""
        with psycopg.connect(self.standby.url, autocommit=True) as conn:
            assert conn.execute("SELECT pg_promote()").fetchone() == (True,)

    def _copy(self) -> None:
        """The primary's files as those of a standby."""
        account = server_account(self.primary.data)
        self.standby.folder.mkdir(mode=0o755)
        if account is not None:
            os.chown(self.standby.folder, *account)
        target: list[str | Path] = ["-D", self.standby.data, "-R"]
        with (self.primary.folder / "copy.log").open("w+") as log:
            copying = start_child(
                [_binaries() / "pg_basebackup", "-d", self.primary.url, "-c", "fast", *target],
                env={"PATH": os.defpath, "LC_ALL": "C"},
                cwd=self.standby.folder,
                user=account,
                output=log,
            )
            assert copying.wait(120) == 0, log.seek(0) or log.read()

    def _is_synchronous(self) -> bool:
        with psycopg.connect(self.primary.url) as conn:
            return conn.execute("SELECT sync_state FROM pg_stat_replication").fetchall() == [("sync",)]


def _allow_replication(server: EmbeddedPostgres) -> None:
    with (server.data / "pg_hba.conf").open("a") as rules:
        rules.write("local replication postgres trust\n")
    _alter(server)


def _alter(server: EmbeddedPostgres, *settings: str) -> None:
    with psycopg.connect(server.url, autocommit=True) as conn:
        for setting in settings:
            conn.execute(f"ALTER SYSTEM SET {setting}")
        conn.execute("SELECT pg_reload_conf()")
