"""PgBouncer in transaction mode before an embedded Postgres, for tests that stop and start it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import psycopg
from psycopg.conninfo import conninfo_to_dict

from cli.embedded.access import server_account
from cli.processes import start_child
from tests.support.eventually import eventually
from tests.support.serving import free_port

# Debian installs it where only root's PATH leads.
PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

# The pooler logs in by the socket, as the superuser, whoever asks. Few connections: clients have to share them.
CONFIG = """
[databases]
* = host={host} port={port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 4
ignore_startup_parameters = extra_float_digits
"""
# From this release on, it can keep the named statements of its clients in transaction mode.
KEEPS_STATEMENTS_FROM = (1, 21)
KEEP_STATEMENTS = "max_prepared_statements = 100\n"


def pgbouncer_version() -> tuple[int, int]:
    assert PGBOUNCER is not None
    said = subprocess.run([PGBOUNCER, "-V"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"PgBouncer (\d+)\.(\d+)", said)
    assert found is not None, said
    return int(found[1]), int(found[2])


class Pooler:
    """`url` is `direct_url` through it. Nothing runs before `start`. `more`: further lines of its configuration."""

    def __init__(self, direct_url: str, folder: Path, more: str = "") -> None:
        given = conninfo_to_dict(direct_url)
        host = str(given["host"])
        port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{port}/{given['dbname']}?sslmode=disable&gssencmode=disable"
        self._config = folder / "pgbouncer.ini"
        self._config.write_text(CONFIG.format(host=host, port=given["port"], listen_port=port) + more)
        self._log = folder / "pgbouncer.log"
        # It refuses to be root, and has to get to the socket of Postgres, whose folder belongs to this account.
        self._account = server_account(Path(host) if host.startswith("/") else None)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when it answers, and so does Postgres."""
        self.launch()
        eventually(self._answers, explain=self._log.read_text)

    def launch(self) -> None:
        assert PGBOUNCER is not None
        with self._log.open("ab") as log, self._config.open() as config:
            # By its descriptor, since the account may not look into the folders of pytest.
            self._process = start_child(
                [PGBOUNCER, "/dev/stdin"],
                env={"PATH": os.defpath},
                cwd=Path("/"),
                user=self._account,
                stdin=config.fileno(),
                output=log,
            )

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url, connect_timeout=5).close()
        except psycopg.OperationalError:
            return False
        return True
