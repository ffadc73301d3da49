"""The embedded Postgres and S3 server as parts of `darkroom up`, where the operator hasn't named others."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Mapping
from functools import partial

from cli.embedded import EmbeddedPostgres, EmbeddedS3, EmbeddedServerError
from cli.embedded.app_role import ROLE, ensure_app_role
from cli.embedded.s3 import MIN_FREE_MIB
from cli.supervision.data_folder import DataFolder
from cli.supervision.interrupts import StopRequest
from cli.supervision.log_stream import LogStream
from cli.supervision.stale_processes import ProcessRecord
from cli.supervision.supervise import Role
from cli.up.disk_watch import POSTGRES_NEEDS_BYTES, DiskWatch
from cli.up.stages import Stages


class Servers:
    """Those of the two that this run needs. Both are launched together, since each takes seconds to come up."""

    def __init__(
        self,
        folder: DataFolder,
        outside: Mapping[str, str],
        stop: StopRequest,
        record: ProcessRecord,
        log: LogStream,
    ) -> None:
        self._folder = folder
        self._stop = stop
        self._record = record
        self._log = log
        self._roles: list[Role] = []
        self._disk_watch: DiskWatch | None = None
        self.postgres: EmbeddedPostgres | None = None
        self.s3: EmbeddedS3 | None = None
        needs_postgres, needs_s3 = not outside.get("DATABASE_URL"), not outside.get("S3_ENDPOINT_URL")
        if needs_postgres or needs_s3:
            folder.require_space()
            self._disk_watch = DiskWatch(
                folder.path,
                needed_bytes=MIN_FREE_MIB * 2**20 if needs_s3 else POSTGRES_NEEDS_BYTES,
                say=partial(log.from_role, "up"),
                on_room=self._try_now,
            )
        if needs_postgres:
            self.postgres = EmbeddedPostgres(folder.postgres)
        if needs_s3:
            if "," in str(folder.s3):
                raise EmbeddedServerError(
                    f"The embedded S3 server can't keep its data in {folder.path}, because the path has a comma in it:"
                    " give --data another folder."
                )
            self._keys = folder.s3_keys()
            self.s3 = EmbeddedS3(
                folder.s3,
                access_key_id=self._keys.access_key_id,
                secret_access_key=self._keys.secret_access_key,
                tls=True,
            )

    def launch(self) -> None:
        """Start them without waiting, but for the files of a new database. Raises EmbeddedServerError."""
        if self.s3 is not None:
            self.s3.launch()
        if self.postgres is not None:
            self.postgres.launch(self._stop)

    def wait_for_postgres(self, stages: Stages) -> None:
        if (postgres := self.postgres) is None:
            return
        with stages("Postgres"):
            postgres.wait(self._stop)
        self._look_after("postgres", postgres)

    def wait_for_s3(self, stages: Stages) -> None:
        if (s3 := self.s3) is None:
            return
        with stages("S3"):
            s3.wait(self._stop)
        self._look_after("s3", s3)

    def app_database_url(self) -> str | None:
        """How the roles reach the embedded Postgres, with fewer rights than ours. The schema has to be there."""
        if self.postgres is None:
            return None
        password = self._folder.database_password()
        ensure_app_role(self.postgres.url, password)
        return self.postgres.url_of(ROLE, password)

    def addresses(self) -> list[str]:
        """Each host:port on which the embedded servers listen; Postgres has a socket only. Known from `launch` on."""
        return [] if self.s3 is None else self.s3.addresses

    def s3_settings(self) -> dict[str, str] | None:
        """How the roles reach the embedded S3 server; known once it was launched."""
        if self.s3 is None:
            return None
        return {
            "S3_ENDPOINT_URL": self.s3.endpoint_url,
            "S3_CA_BUNDLE": str(self.s3.ca_bundle),
            "S3_ACCESS_KEY_ID": self._keys.access_key_id,
            "S3_SECRET_ACCESS_KEY": self._keys.secret_access_key,
            "S3_REGION": "us-east-1",
            "S3_ADDRESSING": "path",
        }

    def tick(self) -> None:
        for role in self._roles:
            role.tick()
        if self._disk_watch is not None:
            self._disk_watch.tick()

    def stop(self) -> None:
        """Within 4 s in the worst case; both at once."""
        if self.s3 is not None and hasattr(self.s3, "process") and self.s3.process.poll() is None:
            self.s3.process.send_signal(signal.SIGTERM)
        if self.postgres is not None:
            self.postgres.stop(patience_s=2.0)
        if self.s3 is not None:
            self.s3.stop()
        for role in self._roles:
            if role.child is not None:
                role.child.exit_code()

    def _try_now(self) -> None:
        for role in self._roles:
            role.try_now()

    def _look_after(self, name: str, server: EmbeddedPostgres | EmbeddedS3) -> None:
        def launch() -> subprocess.Popen[bytes]:
            server.launch()
            return server.process

        role = Role(name, launch, self._record, self._log, first_delay_s=0.0)
        role.adopt(server.process)
        self._roles.append(role)
