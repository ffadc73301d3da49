"""A primary and a standby that copies it synchronously, each behind a port that can be cut off."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg

from cli.embedded import EmbeddedPostgres
from cli.embedded.access import server_account
from cli.embedded.postgres import PORT, _binaries
from cli.processes import start_child
from tests.chaos.proxy import PostgresProxy
from tests.support.eventually import eventually

COPY_WITHIN_S = 120.0
# A standby looks for its primary again after 5 s, and until it has found it no commit is answered.
FOLLOWS = "primary_conninfo = '{url}'\nwal_retrieve_retry_interval = '200ms'\n"


class ReplicatingPostgres(EmbeddedPostgres):
    """Lets another server copy it."""

    def _configure(self, account: tuple[int, int] | None) -> None:
        super()._configure(account)
        with (self.data / "pg_hba.conf").open("a") as rules:
            rules.write("local replication postgres trust\n")


class ReplicatedPostgres:
    """`primary` and `standby` change places when the standby is promoted; each keeps its port, and `url` names both."""

    def __init__(self, folder: Path) -> None:
        self.primary = ReplicatingPostgres(folder / "a")
        self.standby = ReplicatingPostgres(folder / "b")
        self._ports: dict[EmbeddedPostgres, PostgresProxy] = {}

    @contextmanager
    def running(self) -> Iterator[ReplicatedPostgres]:
        with ExitStack() as stack:
            for server in (self.primary, self.standby):
                stack.callback(server.stop)
            self.primary.start()
            copying = self.start_copy()
            assert copying.wait(COPY_WITHIN_S) == 0, self.copy_log.read_text()
            self.launch_standby()
            self.standby.wait()
            eventually(self.standby_follows)
            self.wait_for_standby(True)
            eventually(self.is_synchronous)
            for server in (self.primary, self.standby):
                self._ports[server] = PostgresProxy(socket_of(server))
                stack.callback(self._ports[server].close)
            yield self

    def port_of(self, server: EmbeddedPostgres) -> PostgresProxy:
        return self._ports[server]

    @property
    def copy_log(self) -> Path:
        return self.standby.folder / "copy.log"

    @property
    def url(self) -> str:
        """`postgresql://…@host1:port1,host2:port2/…`"""
        hosts = ",".join(port.url.partition("@")[2].partition("/")[0] for port in self._ports.values())
        return f"postgresql://postgres@{hosts}/postgres?sslmode=disable&gssencmode=disable"

    def kill_primary(self) -> None:
        self.primary.process.kill()
        self.primary.process.wait()
        self.primary.end_leftovers()

    def promote_standby(self) -> None:
        """Returns when it takes writes, and is `primary`. It waits for no standby."""
        with psycopg.connect(self.standby.url, autocommit=True) as conn:
            assert conn.execute("SELECT pg_promote()").fetchone() == (True,)
        self.primary, self.standby = self.standby, self.primary

    def start_copy(self) -> subprocess.Popen[bytes]:
        """Begin to make the standby's files anew, from the primary's. It doesn't run meanwhile."""
        account = server_account(self.primary.data)
        shutil.rmtree(self.standby.data, ignore_errors=True)
        self.standby.data.mkdir(mode=0o700, parents=True)
        self.standby.folder.chmod(0o755)
        if account is not None:
            os.chown(self.standby.data, *account)
        with self.copy_log.open("w") as log:
            return start_child(
                [_binaries() / "pg_basebackup", "-d", self.primary.url, "-c", "fast", "-N", "-D", self.standby.data],
                env={"PATH": os.defpath, "LC_ALL": "C"},
                cwd=self.standby.data,
                user=account,
                output=log,
            )

    def launch_standby(self) -> None:
        """After a copy, whose settings are those of the primary: of these it keeps none."""
        (self.standby.data / "postgresql.auto.conf").write_text(FOLLOWS.format(url=self.primary.url))
        (self.standby.data / "standby.signal").touch()
        self.standby.launch()

    def standby_follows(self) -> bool:
        return self._replication_is("state = 'streaming'")

    def is_synchronous(self) -> bool:
        """Whether the primary answers no commit that the standby doesn't have."""
        return self._replication_is("sync_state = 'sync'")

    def wait_for_standby(self, waits: bool) -> None:
        """Whether commits wait for the standby."""
        alter(self.primary, f"synchronous_standby_names = '{'*' if waits else ''}'")

    def _replication_is(self, condition: str) -> bool:
        with psycopg.connect(self.primary.url) as conn:
            rows = conn.execute(f"SELECT FROM pg_stat_replication WHERE {condition}").fetchall()
        return len(rows) == 1


def socket_of(server: EmbeddedPostgres) -> Path:
    return server.socket_folder / f".s.PGSQL.{PORT}"


def alter(server: EmbeddedPostgres, *settings: str) -> None:
    """ALTER SYSTEM, and have it read."""
    with psycopg.connect(server.url, autocommit=True) as conn:
        for setting in settings:
            conn.execute(f"ALTER SYSTEM SET {setting}")
        conn.execute("SELECT pg_reload_conf()")
