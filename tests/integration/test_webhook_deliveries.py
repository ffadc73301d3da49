"""The outbox as its owners see it: the list, the replay, the command, and the secrets at rest."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.app import close, create_app
from api.settings import ApiSettings
from storage.access.sealing import IN_THE_CLEAR, open_sealer
from storage.access.signing_keys import active_webhook_secrets, ensure_keys, link_keys, rotate_webhook_secret
from storage.access.tokens import create_token
from storage.errors import OperatorError
from storage.postgres.database import Connection
from storage.settings import Settings
from tests.conftest import REPOSITORY
from tests.integration.deliveries_of import insert_prediction, jobs, read, write
from tests.support.making import count

URL = "http://127.0.0.1:9/hook"
KEY = "k" * 40


@pytest.fixture
def client(settings: ApiSettings) -> Iterator[FlaskClient]:
    catalog = REPOSITORY / "models.toml"
    app = create_app(settings.model_copy(update={"models": catalog, "public_url": "http://api.test/base"}))
    with app.test_client() as client:
        yield client
    close(app)


def darkroom(settings: Settings, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "webhooks", *words],
        env=os.environ | {"DATABASE_URL": settings.database_url, "PYTHONPATH": str(REPOSITORY), **env},
        capture_output=True,
        text=True,
        check=False,
    )


def give_up(conn: Connection, delivery_id: str) -> None:
    conn.execute(
        """
        UPDATE webhook_deliveries
        SET status = 'failed', attempts = 10, last_status = 500, last_error = 'HTTP 500', queue_job_id = NULL
        WHERE id = %s
        """,
        (delivery_id,),
    )
    conn.execute("DELETE FROM procrastinate_jobs")


def test_the_list_is_newest_first_and_pages_by_next(client: FlaskClient, conn: Connection) -> None:
    written = [write(conn, URL) for _ in range(103)]
    first = client.get("/v1/webhook_deliveries").get_json()
    assert first["next"].startswith("http://api.test/base/v1/webhook_deliveries?cursor=msg_")
    second = client.get("/v1/webhook_deliveries?" + first["next"].partition("?")[2]).get_json()
    assert second["next"] is None
    ids = [each["id"] for each in first["results"] + second["results"]]
    assert ids == sorted(written, reverse=True)
    assert "body" not in first["results"][0]


def test_the_list_can_be_narrowed_to_a_prediction_and_a_status(client: FlaskClient, conn: Connection) -> None:
    prediction_id = insert_prediction(conn)
    failed = write(conn, URL, prediction_id=prediction_id)
    give_up(conn, failed)
    write(conn, URL, prediction_id=prediction_id)
    write(conn, URL)
    found = client.get(f"/v1/webhook_deliveries?prediction_id={prediction_id}&status=failed").get_json()
    assert [each["id"] for each in found["results"]] == [failed]
    shown = client.get(f"/v1/webhook_deliveries/{failed}").get_json()
    assert shown == found["results"][0]
    assert (shown["status"], shown["attempts"], shown["last_status"]) == ("failed", 10, 500)
    assert shown["last_error"] == "HTTP 500"


@pytest.mark.parametrize("query", ["cursor=x", "cursor=msg_%00", "status=lost", "prediction_id=A%27--"])
def test_a_list_that_makes_no_sense_is_refused(client: FlaskClient, query: str) -> None:
    answer = client.get(f"/v1/webhook_deliveries?{query}")
    assert answer.status_code == 422
    assert answer.get_json()["detail"].startswith(query.partition("=")[0])


def test_a_replay_sends_the_same_id_and_body_from_the_start_of_the_schedule(
    client: FlaskClient, conn: Connection
) -> None:
    delivery_id = write(conn, URL)
    give_up(conn, delivery_id)
    before = read(conn, delivery_id)
    answer = client.post(f"/v1/webhook_deliveries/{delivery_id}/replay")
    assert (answer.status_code, answer.get_json()["status"]) == (200, "pending")
    after = read(conn, delivery_id)
    assert (after["id"], after["body"], after["url"]) == (before["id"], before["body"], before["url"])
    assert after["attempts"] == 0
    assert [job["delivery_id"] for job in jobs(conn)] == [delivery_id]
    assert after["queue_job_id"] == jobs(conn)[0]["id"]


def test_a_replay_leaves_a_delivery_in_the_hands_of_the_courier_that_has_it(
    client: FlaskClient, conn: Connection
) -> None:
    delivery_id = write(conn, URL)
    conn.execute("UPDATE webhook_deliveries SET locked_until = clock_timestamp() + interval '9 s'")
    locked_until = read(conn, delivery_id)["locked_until"]
    client.post(f"/v1/webhook_deliveries/{delivery_id}/replay")
    assert read(conn, delivery_id)["locked_until"] == locked_until


def test_what_can_not_be_replayed_says_why(client: FlaskClient, conn: Connection) -> None:
    assert client.post("/v1/webhook_deliveries/nonsense/replay").status_code == 404
    assert client.post(f"/v1/webhook_deliveries/msg_{'0' * 26}/replay").status_code == 404
    prediction_id = insert_prediction(conn)
    dropped = write(conn, URL, event="start", prediction_id=prediction_id)
    write(conn, URL, prediction_id=prediction_id)
    answer = client.post(f"/v1/webhook_deliveries/{dropped}/replay")
    assert (answer.status_code, answer.get_json()["title"]) == (409, "Conflict")


def test_the_command_lists_and_replays(settings: Settings, conn: Connection) -> None:
    failed = [write(conn, URL) for _ in range(2)]
    for delivery_id in failed:
        give_up(conn, delivery_id)
    started = write(conn, URL, event="start")
    give_up(conn, started)
    listed = darkroom(settings, "list", "--status", "failed")
    assert listed.returncode == 0
    assert sorted(line.split()[0] for line in listed.stdout.splitlines()) == sorted([*failed, started])
    assert "HTTP 500" in listed.stdout
    assert "2 will be sent again" in darkroom(settings, "replay", "--failed").stdout
    assert count(conn, "webhook_deliveries", "status = 'pending'") == 2
    assert count(conn, "webhook_deliveries", "status = 'failed' AND event = 'start'") == 1
    unknown = darkroom(settings, "replay", "msg_x")
    assert unknown.returncode == 2
    assert unknown.stderr.count("\n") == 1
    assert darkroom(settings, "replay").returncode == 2


def test_rotating_prints_the_new_secret_and_both_sign_meanwhile(settings: Settings, conn: Connection) -> None:
    ensure_keys(conn, IN_THE_CLEAR)
    old = active_webhook_secrets(conn, IN_THE_CLEAR)
    rotated = darkroom(settings, "rotate-secret", "--overlap", "30m")
    assert rotated.returncode == 0
    assert active_webhook_secrets(conn, IN_THE_CLEAR) == [rotated.stdout.strip(), *old]
    conn.execute("UPDATE signing_keys SET retired_at = clock_timestamp() WHERE retired_at IS NOT NULL")
    assert active_webhook_secrets(conn, IN_THE_CLEAR) == [rotated.stdout.strip()]
    for refused in ("soon", "31d", "999999d"):
        assert darkroom(settings, "rotate-secret", "--overlap", refused).returncode == 2


def test_a_rotation_without_overlap_leaves_the_new_secret_alone(settings: Settings, conn: Connection) -> None:
    ensure_keys(conn, IN_THE_CLEAR)
    rotate_webhook_secret(conn, IN_THE_CLEAR, overlap=timedelta(days=1))
    assert len(active_webhook_secrets(conn, IN_THE_CLEAR)) == 2
    rotated = darkroom(settings, "rotate-secret", "--overlap", "0s")
    assert active_webhook_secrets(conn, IN_THE_CLEAR) == [rotated.stdout.strip()]
    assert "Only the new secret signs" in rotated.stderr


def test_a_rotation_lengthens_no_overlap_that_is_under_way(settings: Settings, conn: Connection) -> None:
    ensure_keys(conn, IN_THE_CLEAR)
    rotate_webhook_secret(conn, IN_THE_CLEAR, overlap=timedelta(hours=1))
    rotate_webhook_secret(conn, IN_THE_CLEAR, overlap=timedelta(days=30))
    assert count(conn, "signing_keys", "retired_at > clock_timestamp() + interval '1 hour'") == 1
    assert count(conn, "signing_keys", "retired_at < clock_timestamp() + interval '1 hour'") == 1


def sealing(settings: Settings, key: str) -> Any:
    return open_sealer(settings.model_validate(settings.model_dump() | {"secret_key": key}))


def test_secrets_are_encrypted_at_rest_also_those_that_were_there_before(settings: Settings, conn: Connection) -> None:
    ensure_keys(conn, IN_THE_CLEAR)
    before = active_webhook_secrets(conn, IN_THE_CLEAR), link_keys(conn, IN_THE_CLEAR)
    sealer = sealing(settings, KEY)
    ensure_keys(conn, sealer)
    rotate_webhook_secret(conn, sealer, overlap=timedelta(0))
    assert count(conn, "signing_keys", "secret NOT LIKE 'sealed:%%'") == 0
    assert link_keys(conn, sealer) == before[1]
    new = active_webhook_secrets(conn, sealer)[0].removeprefix("whsec_")
    stored = conn.execute("SELECT string_agg(secret, ' ') AS text FROM signing_keys").fetchone()
    assert stored is not None
    assert new not in stored["text"]


def test_a_new_secret_key_opens_what_the_old_one_sealed_while_both_are_given(
    settings: Settings, conn: Connection
) -> None:
    ensure_keys(conn, sealing(settings, KEY))
    both = sealing(settings, f"{'n' * 40},{KEY}")
    assert active_webhook_secrets(conn, both) == active_webhook_secrets(conn, sealing(settings, KEY))


def test_an_old_secret_key_can_be_dropped_when_a_role_has_started_with_both(
    settings: Settings, conn: Connection
) -> None:
    ensure_keys(conn, sealing(settings, KEY))
    before = active_webhook_secrets(conn, sealing(settings, KEY)), link_keys(conn, sealing(settings, KEY))
    ensure_keys(conn, sealing(settings, f"{'n' * 40},{KEY}"))
    new = sealing(settings, "n" * 40)
    ensure_keys(conn, new)
    assert (active_webhook_secrets(conn, new), link_keys(conn, new)) == before
    with pytest.raises(OperatorError, match="another SECRET_KEY"):
        ensure_keys(conn, sealing(settings, KEY))


def test_a_wrong_a_missing_and_a_short_secret_key_are_one_clear_line(settings: Settings, conn: Connection) -> None:
    ensure_keys(conn, sealing(settings, KEY))
    for wrong, why in ((sealing(settings, "w" * 40), "another SECRET_KEY"), (IN_THE_CLEAR, "SECRET_KEY is not set")):
        with pytest.raises(OperatorError, match=why):
            active_webhook_secrets(conn, wrong)
    with pytest.raises(OperatorError, match="at least 32"):
        sealing(settings, "short")
    refused = darkroom(settings, "rotate-secret", SECRET_KEY="w" * 8)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "wwww" not in refused.stderr


@pytest.mark.parametrize("key", ["", "w" * 40], ids=["without a key", "with another key"])
def test_rotating_is_refused_where_the_secrets_are_sealed_with_a_key_that_is_not_given(
    settings: Settings, conn: Connection, key: str
) -> None:
    ensure_keys(conn, sealing(settings, KEY))
    refused = darkroom(settings, "rotate-secret", "--overlap", "0s", SECRET_KEY=key)
    assert (refused.returncode, refused.stdout, refused.stderr.count("\n")) == (2, "", 1)
    assert "SECRET_KEY" in refused.stderr
    assert len(active_webhook_secrets(conn, sealing(settings, KEY))) == 1, "the old one signs on"
    assert count(conn, "signing_keys", "secret NOT LIKE 'sealed:%%'") == 0


def test_a_token_sees_and_replays_the_deliveries_of_its_own_predictions_alone(
    client: FlaskClient, conn: Connection
) -> None:
    mine, others = create_token(conn, "mine"), create_token(conn, "others")
    prediction_id = insert_prediction(conn)
    conn.execute("UPDATE predictions SET token_id = (SELECT id FROM tokens WHERE name = 'mine')")
    delivery_id = write(conn, URL, prediction_id=prediction_id)
    for token, status, seen in ((mine, 200, [delivery_id]), (others, 404, [])):
        bearer = {"Authorization": f"Bearer {token}"}
        listed = client.get("/v1/webhook_deliveries", headers=bearer).get_json()
        assert [each["id"] for each in listed["results"]] == seen
        assert client.get(f"/v1/webhook_deliveries/{delivery_id}", headers=bearer).status_code == status
        assert client.post(f"/v1/webhook_deliveries/{delivery_id}/replay", headers=bearer).status_code == status
