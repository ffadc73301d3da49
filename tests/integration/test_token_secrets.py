"""Each token signs its webhooks with a secret of its own; what revoking one does to its predictions."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest
from click.testing import CliRunner, Result
from flask import Flask
from standardwebhooks import Webhook, WebhookVerificationError

from api import auth
from api.settings import ApiSettings
from cli.commands import tokens as tokens_command
from cli.group import darkroom
from courier.deliver import Deliverer
from courier.slots import Slots
from storage.access.sealing import IN_THE_CLEAR, open_sealer
from storage.access.signing_keys import (
    active_webhook_secrets,
    ensure_keys,
    rotate_webhook_secret,
    rotate_webhook_secret_of_token,
)
from storage.access.tokens import create_token, id_of_token, rotate_token
from storage.errors import OperatorError
from storage.postgres.clock import DatabaseClock
from storage.postgres.database import Connection, open_pool
from storage.predictions.render import Renderer
from storage.settings import Settings
from tests.integration.deliveries_of import insert_prediction, write
from tests.support.api_app import serving
from tests.support.making import claim_one, count, submit_one
from tests.support.receivers import LOOPBACK_TARGETS, Receiver

KEY = "k" * 40
NEW_KEY = "n" * 40


@pytest.fixture(autouse=True)
def _forget_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "REMEMBER_S", 0.0)
    monkeypatch.setattr(tokens_command, "FORGOTTEN_AFTER_S", 0.0)


@pytest.fixture(autouse=True)
def _keys(conn: Connection) -> None:
    ensure_keys(conn, IN_THE_CLEAR)


@pytest.fixture
def guarded(api_settings: ApiSettings) -> Iterator[Flask]:
    with serving(api_settings.model_copy(update={"auth": "tokens"})) as app:
        yield app


def make(conn: Connection, name: str) -> int:
    create_token(conn, name)
    return id_of_token(conn, name)


def make_old(conn: Connection, name: str) -> int:
    """A token as the release before made it, with what the migration gives it."""
    row = conn.execute(
        "INSERT INTO tokens (name, digest, shown) VALUES (%s, %s, 'dr_') RETURNING id", (name, name)
    ).fetchone()
    assert row is not None
    token_id: int = row["id"]
    return token_id


def secrets_of(conn: Connection, token_id: int | None) -> list[str]:
    return active_webhook_secrets(conn, IN_THE_CLEAR, token_id)


def run(settings: Settings, *words: str, **env: str) -> Result:
    return CliRunner().invoke(darkroom, list(words), env={"DATABASE_URL": settings.database_url, **env})


def test_each_token_reads_its_own_secret_and_no_other(guarded: Flask, conn: Connection) -> None:
    client = guarded.test_client()
    keys = {
        client.get("/v1/webhooks/default/secret", headers={"Authorization": f"Bearer {token}"}).get_json()["key"]
        for token in (create_token(conn, "a"), create_token(conn, "b"))
    }
    assert keys == {*secrets_of(conn, id_of_token(conn, "a")), *secrets_of(conn, id_of_token(conn, "b"))}
    assert len(keys | set(secrets_of(conn, None))) == 3


def test_a_delivery_is_signed_with_the_secret_of_its_own_token_alone(settings: Settings, conn: Connection) -> None:
    mine, others, old = make(conn, "mine"), make(conn, "others"), make_old(conn, "old")
    with Receiver().serving() as receiver, open_pool(settings, application_name="test-courier") as pool:
        deliverer = Deliverer(
            pool=pool,
            clock=DatabaseClock(pool),
            sealer=IN_THE_CLEAR,
            targets=LOOPBACK_TARGETS,
            schedule_s=(0,),
            timeout_s=5,
            slots=Slots(4),
        )
        for token_id in (mine, others, old, None):
            prediction_id = insert_prediction(conn)
            conn.execute("UPDATE predictions SET token_id = %s WHERE id = %s", (token_id, prediction_id))
            write(conn, receiver.url, prediction_id=prediction_id)
            deliverer.deliver_due()
            request = receiver.requests[-1]
            (own,) = secrets_of(conn, token_id)
            Webhook(own).verify(request.body, request.headers)
            for foreign in {*secrets_of(conn, mine), *secrets_of(conn, others), *secrets_of(conn, None)} - {own}:
                with pytest.raises(WebhookVerificationError):
                    Webhook(foreign).verify(request.body, request.headers)


def test_what_no_secret_can_sign_is_not_sent_and_uses_up_no_attempt(settings: Settings, conn: Connection) -> None:
    sealer = open_sealer(settings.model_validate(settings.model_dump() | {"secret_key": KEY}))
    ensure_keys(conn, sealer)
    with Receiver().serving() as receiver, open_pool(settings, application_name="test-courier") as pool:
        deliverer = Deliverer(
            pool=pool,
            clock=DatabaseClock(pool),
            sealer=IN_THE_CLEAR,
            targets=LOOPBACK_TARGETS,
            schedule_s=(0,),
            timeout_s=5,
            slots=Slots(4),
        )
        write(conn, receiver.url)
        deliverer.deliver_due()
        conn.execute("UPDATE webhook_deliveries SET next_attempt_at = clock_timestamp()")
        conn.execute("DELETE FROM signing_keys")
        deliverer.deliver_due()
        assert receiver.requests == []
    assert count(conn, "webhook_deliveries", "status = 'pending' AND attempts = 0 AND locked_until IS NULL") == 1


def test_an_old_token_signs_with_the_shared_secret_until_its_own_is_made(settings: Settings, conn: Connection) -> None:
    token_id = make_old(conn, "old one")
    make(conn, "new")
    shared = secrets_of(conn, None)
    assert secrets_of(conn, token_id) == shared
    listed = run(settings, "tokens", "list")
    assert "darkroom webhooks rotate-secret --token 'old one'" in listed.stderr
    assert [line.split()[-3] for line in listed.stdout.splitlines()[1:]] == ["shared", "own"]

    rotated = run(settings, "webhooks", "rotate-secret", "--token", "old one", "--overlap", "1h")
    assert rotated.exit_code == 0
    own = rotated.stdout.strip()
    assert secrets_of(conn, token_id) == [own, *shared]
    assert secrets_of(conn, None) == shared
    listed = run(settings, "tokens", "list")
    assert "own and shared" in listed.stdout
    assert "rotate-secret" not in listed.stderr

    conn.execute("UPDATE tokens SET shared_secret_until = clock_timestamp() WHERE id = %s", (token_id,))
    assert secrets_of(conn, token_id) == [own]


def test_a_new_shared_secret_reaches_the_tokens_that_share_it_and_no_others(conn: Connection) -> None:
    old, new = make_old(conn, "old"), make(conn, "new")
    own = secrets_of(conn, new)
    shared = rotate_webhook_secret(conn, IN_THE_CLEAR, overlap=timedelta(0))
    assert (secrets_of(conn, old), secrets_of(conn, new)) == ([shared], own)
    assert len(rotate_webhook_secret_of_token(conn, IN_THE_CLEAR, old, overlap=timedelta(days=1))) > 30
    compromised = secrets_of(conn, old)[1]
    rotate_webhook_secret(conn, IN_THE_CLEAR, overlap=timedelta(0))
    assert compromised == shared
    assert shared not in secrets_of(conn, old), "an emergency rotation ends it for those that sign with both too"


def test_rotating_a_tokens_secret_overlaps_or_ends_all_older_ones_at_once(conn: Connection) -> None:
    for token_id, older in ((make(conn, "new"), 1), (make_old(conn, "old"), 1)):
        before = secrets_of(conn, token_id)
        second = rotate_webhook_secret_of_token(conn, IN_THE_CLEAR, token_id, overlap=timedelta(hours=1))
        assert secrets_of(conn, token_id) == [second, *before]
        third = rotate_webhook_secret_of_token(conn, IN_THE_CLEAR, token_id, overlap=timedelta(days=1))
        assert secrets_of(conn, token_id) == [third, second, *before]
        assert len(before) == older
        last = rotate_webhook_secret_of_token(conn, IN_THE_CLEAR, token_id, overlap=timedelta(0))
        assert secrets_of(conn, token_id) == [last]
    assert count(conn, "webhook_secrets", "retired_at > clock_timestamp() + interval '2 h'") == 0


def test_rotating_the_access_token_keeps_its_signing_secret(conn: Connection) -> None:
    before = secrets_of(conn, make(conn, "app"))
    rotate_token(conn, "app")
    assert secrets_of(conn, id_of_token(conn, "app")) == before


def test_a_secret_of_a_token_that_is_not_there_can_not_be_rotated(settings: Settings, conn: Connection) -> None:
    refused = run(settings, "webhooks", "rotate-secret", "--token", "nobody")
    assert refused.exit_code != 0
    with pytest.raises(OperatorError, match="no token 'nobody'"):
        id_of_token(conn, "nobody")
    assert count(conn, "signing_keys", "retired_at IS NOT NULL") == 0


def test_secrets_of_tokens_are_encrypted_and_follow_a_new_secret_key(settings: Settings, conn: Connection) -> None:
    in_the_clear = secrets_of(conn, make(conn, "before"))
    assert run(settings, "tokens", "create", "after", SECRET_KEY=KEY).exit_code == 0
    assert count(conn, "webhook_secrets", "secret LIKE 'sealed:%%'") == 1, "the command seals what it makes"

    def sealing(keys: str) -> object:
        return open_sealer(settings.model_validate(settings.model_dump() | {"secret_key": keys}))

    for keys in (KEY, f"{NEW_KEY},{KEY}", NEW_KEY):
        sealer = sealing(keys)
        ensure_keys(conn, sealer)  # type: ignore[arg-type]
        assert count(conn, "webhook_secrets", "secret NOT LIKE 'sealed:%%'") == 0
        assert active_webhook_secrets(conn, sealer, id_of_token(conn, "before")) == in_the_clear  # type: ignore[arg-type]
    with pytest.raises(OperatorError, match="another SECRET_KEY"):
        active_webhook_secrets(conn, sealing(KEY), id_of_token(conn, "after"))  # type: ignore[arg-type]
    refused = run(settings, "webhooks", "rotate-secret", "--token", "after", SECRET_KEY=KEY)
    assert refused.exit_code != 0
    assert count(conn, "webhook_secrets") == 2, "nothing was stored that one key alone can't open"


def test_revoking_says_what_goes_on_and_cancel_ends_it(
    settings: Settings, conn: Connection, renderer: Renderer
) -> None:
    mine, others = make(conn, "app 1"), make(conn, "others")
    drawing = submit_one(conn, token_id=mine)
    claimed = claim_one(conn, renderer)
    assert claimed is not None
    assert claimed.prediction_id == drawing["id"]
    for _ in range(3):
        submit_one(conn, token_id=mine)
    submit_one(conn, token_id=others)
    submit_one(conn)

    revoked = run(settings, "tokens", "revoke", "app 1")
    assert revoked.stdout == "app 1 is revoked.\n"
    assert "3 of its predictions wait and 1 are being drawn" in revoked.stderr
    assert "darkroom tokens revoke --cancel 'app 1'" in revoked.stderr
    assert count(conn, "predictions", "status = 'canceled'") == 0

    canceled = run(settings, "tokens", "revoke", "--cancel", "app 1")
    assert (canceled.exit_code, canceled.stdout) == (0, "app 1 is revoked; 4 of its predictions were canceled.\n")
    assert count(conn, "predictions", f"status = 'canceled' AND token_id = {mine}") == 4
    assert count(conn, "predictions", "status = 'canceled' AND error = 'Its token was revoked.'") == 4
    assert count(conn, "predictions", "status = 'starting'") == 2
    assert count(conn, "procrastinate_jobs", "task_name = 'darkroom:draw'") == 2, "their bells are gone"
    assert count(conn, "webhook_deliveries", "event = 'completed' AND status = 'pending'") == 4
    assert run(settings, "tokens", "revoke", "app 1").stderr == "", "nothing is left to say"
