"""The backup and restore of docs/deploy.md: another Postgres and a copied bucket, while work goes on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from api.settings import ApiSettings
from cli.embedded import EmbeddedPostgres
from storage.postgres.database import Connection, connect
from storage.postgres.schema_revision import check
from storage.predictions.render import Renderer, open_renderer
from storage.s3.bucket import Bucket, ensure_bucket
from storage.s3.bucket_check import check_bucket
from tests.integration.courier_running import running
from tests.support.api_app import serving, submit
from tests.support.backups import PICTURE, draw, path_of, run_documented
from tests.support.command import command
from tests.support.eventually import eventually
from tests.support.making import claim_one, count
from tests.support.receivers import Receiver

DRAWN_AFTER_THE_DUMP = 2


@pytest.fixture
def other_postgres() -> Iterator[EmbeddedPostgres]:
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)  # as root, Postgres runs as an account of its own
        server = EmbeddedPostgres(Path(name) / "postgres")
        server.start()
        yield server
        server.stop()


def copy_bucket(source: ApiSettings, target: ApiSettings) -> None:
    """What `aws s3 sync` does, which isn't installed here."""
    ensure_bucket(target)
    bucket, copy = Bucket(source), Bucket(target)
    for page in bucket.pages(f"{source.s3_prefix}/"):
        for listed in page:
            copy.put(listed.key, bucket.read(listed.key), bucket.open(listed.key).content_type)


def test_what_the_dump_knows_works_after_a_restore_to_another_server_and_bucket(
    client: FlaskClient,
    settings: ApiSettings,
    conn: Connection,
    renderer: Renderer,
    other_postgres: EmbeddedPostgres,
    tmp_path: Path,
) -> None:
    receiver = Receiver()
    with receiver.serving():
        drawn = submit(client, webhook=receiver.url, webhook_events_filter=["completed"])["id"]
        key = draw(conn, renderer, settings)
        url = client.get(f"/v1/predictions/{drawn}").get_json()["output"][0]
        waiting, half_drawn = submit(client, input={"prompt": "b"})["id"], submit(client, input={"prompt": "c"})["id"]
        assert claim_one(conn, renderer) is not None  # its worker is gone with the old server
        run_documented("pg_dump", tmp_path, settings.database_url)
        younger = submit(client, input={"prompt": "d"})["id"]
        for _ in range(DRAWN_AFTER_THE_DUMP):
            draw(conn, renderer, settings)

        elsewhere = {"database_url": other_postgres.url, "s3_bucket": f"{settings.s3_bucket}-{settings.s3_prefix}"}
        restored = settings.model_copy(update=elsewhere)
        copy_bucket(settings, restored)
        run_documented("pg_restore", tmp_path, restored.database_url)
        check(restored)
        with running(restored), connect(restored.database_url, application_name="test") as conn:
            (received,) = receiver.wait_for(1)
            assert json.loads(received.body)["id"] == drawn
            renderer = open_renderer(restored, conn)
            # The courier takes back what was being drawn at the time of the dump.
            eventually(lambda: count(conn, "predictions", "status = 'starting'") == 2)
            for _ in (waiting, half_drawn):
                draw(conn, renderer, restored)
            with serving(restored) as app:
                there = app.test_client()
                assert there.get(path_of(url)).data == PICTURE  # a link from before the restore
                found = check_bucket(conn, Bucket(restored), s3_prefix=restored.s3_prefix, spare=timedelta(0))
                assert found.unknown == DRAWN_AFTER_THE_DUMP
                for each in (waiting, half_drawn):
                    assert there.get(f"/v1/predictions/{each}").get_json()["status"] == "succeeded"
                assert there.get(f"/v1/predictions/{younger}").status_code == 404
                _check_and_repair(restored, conn, there, key, path_of(url))
        assert len(receiver.requests) == 1


def _check_and_repair(settings: ApiSettings, conn: Connection, client: FlaskClient, key: str, path: str) -> None:
    """One object is lost, is marked, and comes back."""
    words = ("check", "--json")

    def report(*more: str, exit_code: int) -> tuple[list[str], list[str]]:
        result = command(settings, *words, *more)
        assert result.exit_code == exit_code, result.output
        found = json.loads(result.output)
        return found["lost"], found["found"]

    assert report(exit_code=0) == ([], [])
    Bucket(settings).delete([key])
    assert report(exit_code=1) == ([key], [])
    assert count(conn, "objects", "missing_since IS NOT NULL") == 0
    assert report("--repair", exit_code=0) == ([key], [])
    assert client.get(path).status_code == 410
    assert report(exit_code=0) == ([], [])
    Bucket(settings).put(key, PICTURE, "image/png")
    assert report("--repair", exit_code=0) == ([], [key])
    assert client.get(path).data == PICTURE
