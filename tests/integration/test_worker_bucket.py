"""A worker whose bucket can't be written when it starts: it says so, takes nothing, and waits for a while."""

from __future__ import annotations

import json
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from cli.embedded import EmbeddedS3
from storage.catalog import Model
from storage.postgres.database import Connection
from storage.s3.bucket import Bucket, BucketUnavailable, ensure_bucket
from storage.settings import Settings
from tests.conftest import RunningServices
from tests.integration.flaky_proxy import FlakyProxy
from tests.integration.worker_running import worker
from tests.support.command import command
from tests.support.eventually import eventually
from tests.support.making import MODEL, count, submit_one
from worker import bucket_at_start
from worker.process import WorkerProcess
from worker.settings import WorkerSettings

KEY, SECRET = "reader", "may-look-but-not-write"


class ReadOnlyS3(EmbeddedS3):
    """One whose key may read and list, and no more."""

    def _write_identity(self) -> None:
        super()._write_identity()
        path = self.folder / "identity.json"
        document = json.loads(path.read_text())
        document["identities"][0]["actions"] = ["Read", "List"]
        path.write_text(json.dumps(document))


@pytest.fixture
def read_only_s3() -> Iterator[str]:
    """The address of an S3 server with a bucket into which its key may not write."""
    folder = Path(tempfile.mkdtemp(prefix="dr-"))
    try:
        for kind in (EmbeddedS3, ReadOnlyS3):
            server = kind(folder, access_key_id=KEY, secret_access_key=SECRET)
            try:
                server.start()
                if kind is EmbeddedS3:
                    ensure_bucket(
                        Settings(
                            database_url="postgresql://nobody",
                            s3_endpoint_url=server.endpoint_url,
                            s3_access_key_id=KEY,
                            s3_secret_access_key=SECRET,
                        )
                    )
                else:
                    yield server.endpoint_url
            finally:
                server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def has_failed(conn: Connection, because: str) -> bool:
    return count(conn, "workers", f"state = 'failed' AND error LIKE '%{because}%'") == 1


def told(conn: Connection) -> int:
    """The predictions that wait, untouched, and know why."""
    return count(conn, "predictions", "status = 'starting' AND attempt = 0 AND logs LIKE '%it can''t store pictures%'")


@pytest.mark.timeout(600)
def test_wrong_keys_are_told_to_everybody_and_nothing_is_claimed(
    settings: Settings, conn: Connection, tmp_path: Path
) -> None:
    for _ in range(2):
        submit_one(conn)
    with worker(settings, tmp_path, S3_SECRET_ACCESS_KEY="another one") as process:
        eventually(lambda: has_failed(conn, "refuses us (SignatureDoesNotMatch): check S3_ACCESS_KEY_ID"))
        eventually(lambda: told(conn) == 2)
        shown = command(settings, "workers").output
        assert "failed" in shown
        assert "SignatureDoesNotMatch" in shown
        log = (tmp_path / "worker.log").read_text()
        assert "bucket.not_writable" in log
        assert "Traceback" not in log
        endpoint = str(settings.s3_endpoint_url)
        assert endpoint in log  # the operator has to know where
        assert count(conn, "predictions", f"logs LIKE '%{endpoint}%'") == 0  # clients need not
        process.terminate()
        assert process.wait(60) == 0
    assert count(conn, "workers") == 0


@pytest.mark.timeout(600)
def test_a_key_that_may_only_read_is_not_enough(
    settings: Settings, conn: Connection, tmp_path: Path, read_only_s3: str
) -> None:
    reader = settings.model_copy(update={"s3_endpoint_url": read_only_s3, "s3_bucket": "darkroom"})
    keys = {"S3_ACCESS_KEY_ID": KEY, "S3_SECRET_ACCESS_KEY": SECRET}
    Bucket(Settings(**reader.model_dump() | {name.lower(): value for name, value in keys.items()})).check()
    submit_one(conn)
    with worker(reader, tmp_path, **keys):
        eventually(lambda: has_failed(conn, "refuses us (AccessDenied)"))
        eventually(lambda: told(conn) == 1)


@pytest.mark.timeout(600)
def test_a_bucket_that_is_made_later_is_found(settings: Settings, conn: Connection, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"s3_bucket": f"later-{uuid4().hex[:12]}"})
    submit_one(conn)
    with worker(settings, tmp_path):
        eventually(lambda: has_failed(conn, "refuses us (NoSuchBucket)"))
        eventually(lambda: told(conn) == 1)
        ensure_bucket(settings)
        eventually(lambda: count(conn, "predictions", "status = 'succeeded' AND attempt = 1") == 1, timeout_s=180)
        assert count(conn, "workers", "state IN ('idle', 'drawing') AND error IS NULL") == 1


@pytest.mark.timeout(600)
def test_an_s3_server_that_comes_up_later_is_found(
    settings: Settings, conn: Connection, tmp_path: Path, services: RunningServices
) -> None:
    submit_one(conn)
    with FlakyProxy(services.s3_endpoint_url) as proxy:
        proxy.is_down.set()
        with worker(settings.model_copy(update={"s3_endpoint_url": proxy.url}), tmp_path):
            eventually(lambda: has_failed(conn, "S3 can%t be reached"))
            eventually(lambda: told(conn) == 1)
            proxy.is_down.clear()
            eventually(lambda: count(conn, "predictions", "status = 'succeeded' AND attempt = 1") == 1, timeout_s=180)


def test_after_a_while_it_leaves_the_waiting_to_those_who_started_it(
    settings: Settings, conn: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bucket_at_start, "WAITS_S", (0.1, 0.2))
    values = settings.model_dump(exclude_unset=True) | {"s3_bucket": f"never-{uuid4().hex[:12]}"}
    process = WorkerProcess(WorkerSettings(**values), Model(name=MODEL, engine="blank"), idle_exit_s=None)
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(process.run()))  # a signal's handler stays the test's
    thread.start()
    thread.join()
    assert codes == [1]
    assert has_failed(conn, "NoSuchBucket")  # still to be seen


def test_a_bucket_is_writable_or_says_what_to_check(settings: Settings) -> None:
    Bucket(settings).check_writable()
    with pytest.raises(BucketUnavailable, match=r"The bucket none-such at .* refuses us \(NoSuchBucket\): check S3_"):
        Bucket(settings.model_copy(update={"s3_bucket": "none-such"})).check_writable()
