"""The restore to a point in time of docs/deploy.md: the database is at a moment, the bucket at the present."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from standardwebhooks import Webhook

from api.settings import ApiSettings
from cli.embedded import EmbeddedPostgres
from storage.access.sealing import open_sealer
from storage.access.signing_keys import active_webhook_secrets
from storage.postgres.database import Connection, connect
from storage.postgres.migrate import upgrade
from storage.predictions.render import open_renderer
from storage.predictions.retention.expiry import remove_bytes
from storage.s3.bucket import Bucket
from storage.s3.bucket_check import check_bucket
from tests.conftest import RunningServices
from tests.integration.courier_running import running
from tests.support.api_app import serving, submit
from tests.support.archiving_postgres import ArchivingPostgres, start_at
from tests.support.backups import PICTURE, draw, path_of
from tests.support.command import command
from tests.support.eventually import eventually
from tests.support.making import claim_one, count
from tests.support.receivers import Received, Receiver


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="dr-", ignore_cleanup_errors=True) as name:
        Path(name).chmod(0o755)  # as root, Postgres runs as an account of its own
        yield Path(name)


@pytest.fixture
def archiving(folder: Path) -> Iterator[ArchivingPostgres]:
    server = ArchivingPostgres(folder / "a")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def restored_postgres(folder: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(folder / "b")
    yield server
    server.stop()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    with receiver.serving():
        yield receiver


@pytest.fixture
def settings(services: RunningServices, archiving: ArchivingPostgres, catalog: Path, folder: Path) -> ApiSettings:
    """Those of the server that archives; a prefix of its own in the bucket."""
    made = services.settings_for(folder.name, database_url=archiving.url, models=catalog)
    upgrade(made)
    return made


@pytest.fixture
def restored(
    services: RunningServices, restored_postgres: EmbeddedPostgres, catalog: Path, folder: Path
) -> ApiSettings:
    """The same with the restored server, which has to be started."""
    return services.settings_for(folder.name, database_url=restored_postgres.url, models=catalog)


class Before:
    """What exists at the moment that is restored: ids of predictions, and the path of a picture."""

    def __init__(self, client: FlaskClient, conn: Connection, settings: ApiSettings, receiver: Receiver) -> None:
        renderer = open_renderer(settings, conn)
        hook: dict[str, Any] = {"webhook": receiver.url, "webhook_events_filter": ["completed"]}
        self.drawn = submit(client, **hook)["id"]  # its webhook is pending
        draw(conn, renderer, settings)
        self.path = path_of(client.get(f"/v1/predictions/{self.drawn}").get_json()["output"][0])
        self.deleted_since = submit(client, input={"prompt": "b"})["id"]
        self.key_deleted_since = draw(conn, renderer, settings)
        self.half_drawn = submit(client, input={"prompt": "c"}, **hook)["id"]
        assert claim_one(conn, renderer) is not None
        self.waiting = submit(client, input={"prompt": "d"}, **hook)["id"]
        self.secrets = active_webhook_secrets(conn, open_sealer(settings))


def test_after_a_restore_to_a_moment_the_service_goes_on_from_there(
    settings: ApiSettings,
    archiving: ArchivingPostgres,
    restored: ApiSettings,
    restored_postgres: EmbeddedPostgres,
    receiver: Receiver,
) -> None:
    with serving(settings) as app, connect(settings.database_url, application_name="test") as conn:
        client = app.test_client()
        earlier = submit(client, input={"prompt": "a"})["id"]
        draw(conn, open_renderer(settings, conn), settings)
        archiving.copy_files()
        before = Before(client, conn, settings, receiver)
        moment = moment_of(conn)
        younger, sent_since = go_on(client, conn, settings, before, receiver)
        archiving.archive_everything()
    archiving.kill()

    start_at(moment, restored_postgres, archiving.backups)
    checked = command(restored, "check", "--repair", "--json")
    assert checked.exit_code == 0, checked.output
    assert json.loads(checked.output)["lost"] == [before.key_deleted_since]

    with ExitStack() as stack:
        conn = stack.enter_context(connect(restored.database_url, application_name="test"))
        client = stack.enter_context(serving(restored)).test_client()
        found = check_bucket(conn, Bucket(restored), s3_prefix=restored.s3_prefix, spare=timedelta(0))
        assert (found.lost, found.unknown) == ([], 2)  # of `waiting` and of `younger`, drawn since
        stack.enter_context(running(restored))
        assert client.get(f"/v1/predictions/{younger}").status_code == 404
        # The courier takes back what was being drawn at the moment.
        eventually(lambda: count(conn, "predictions", "status = 'starting'") == 2)
        first = {prediction_of(each): each for each in sent_since}
        told_since = path_of(json.loads(first[before.waiting].body)["output"][0])
        assert client.get(told_since).status_code == 404
        renderer = open_renderer(restored, conn)
        for _ in (before.half_drawn, before.waiting):
            draw(conn, renderer, restored)
        every_known_picture_opens(client, conn)
        assert client.get(before.path).data == PICTURE  # a link from before the moment
        assert client.get(told_since).data == PICTURE  # the address is that of the first drawing
        for each in (earlier, before.drawn, before.half_drawn, before.waiting):
            assert client.get(f"/v1/predictions/{each}").get_json()["status"] == "succeeded"
        # It is back, without its picture.
        gone = client.get(f"/v1/predictions/{before.deleted_since}").get_json()["output"][0]
        assert client.get(path_of(gone)).status_code == 410
        accepted = submit(client, input={"prompt": "e"})["id"]
        draw(conn, renderer, restored)
        assert client.get(f"/v1/predictions/{accepted}").get_json()["status"] == "succeeded"
        eventually(lambda: count(conn, "webhook_deliveries", "status = 'pending'") == 0)
    sent = receiver.requests[len(sent_since) :]
    assert sorted(prediction_of(each) for each in sent) == sorted([before.drawn, before.half_drawn, before.waiting])
    by_prediction = {prediction_of(each): each for each in sent}
    assert webhook_id(by_prediction[before.drawn]) == webhook_id(first[before.drawn])
    assert by_prediction[before.drawn].body == first[before.drawn].body
    assert webhook_id(by_prediction[before.waiting]) != webhook_id(first[before.waiting])
    for each in sent:
        assert is_signed(each, before.secrets)


def moment_of(conn: Connection) -> datetime:
    row = conn.execute("SELECT clock_timestamp() AS at").fetchone()
    assert row is not None
    at: datetime = row["at"]
    return at


def go_on(
    client: FlaskClient, conn: Connection, settings: ApiSettings, before: Before, receiver: Receiver
) -> tuple[str, list[Received]]:
    """What happens after the moment; returns a prediction that was made then, and the webhooks that were sent."""
    renderer = open_renderer(settings, conn)
    draw(conn, renderer, settings)  # of `waiting`
    younger = submit(client, input={"prompt": "younger"})["id"]
    draw(conn, renderer, settings)
    assert client.delete(f"/v1/predictions/{before.deleted_since}").status_code == 204
    assert remove_bytes(conn, Bucket(settings), s3_prefix=settings.s3_prefix) == 1
    with running(settings):
        sent = receiver.wait_for(2)  # of `drawn` and of `waiting`
    return younger, sent


def every_known_picture_opens(client: FlaskClient, conn: Connection) -> None:
    rows = conn.execute(
        """
        SELECT prediction_id AS id FROM images JOIN objects ON objects.key = images.object_key
        WHERE objects.missing_since IS NULL
        """
    ).fetchall()
    assert len(rows) == 4
    for row in rows:
        (url,) = client.get(f"/v1/predictions/{row['id']}").get_json()["output"]
        assert client.get(path_of(url)).data == PICTURE


def prediction_of(received: Received) -> str:
    return str(json.loads(received.body)["id"])


def webhook_id(received: Received) -> str:
    return received.headers["webhook-id"]


def is_signed(received: Received, secrets: list[str]) -> bool:
    at = datetime.fromtimestamp(int(received.headers["webhook-timestamp"]), UTC)
    signatures = {Webhook(each).sign(webhook_id(received), at, received.body.decode()) for each in secrets}
    return received.headers["webhook-signature"] in signatures
