"""Clients that meet 401, 429, 500 and 503: the right exception, what it says, and how long they wait.

Their sleep is replaced: it is noted, and what they wait for happens at once.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import closing, contextmanager

import openai
import pytest
from openai import OpenAI
from replicate.client import Client
from replicate.exceptions import ReplicateError

from storage.database import Connection, connect
from storage.tokens import create_token
from tests.conftest import RunningServices
from tests.serving import Service, serving

MODEL = "darkroom/blank"
BREAKS = "what the database refuses"


@pytest.fixture(scope="module")
def guarded(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service that wants tokens, and whose database refuses one prompt: a bug that nobody thought of."""
    with serving(services, tmp_path_factory.mktemp("guarded")) as running:
        with connect(running.settings.database_url, application_name="test") as conn:
            create_token(conn, "first")
            conn.execute(f"ALTER TABLE predictions ADD CHECK (input->>'prompt' <> '{BREAKS}')")
        yield running


@pytest.fixture
def database(guarded: Service) -> Iterator[Connection]:
    with connect(guarded.settings.database_url, application_name="test") as conn:
        yield conn


@contextmanager
def replicate(service: Service, token: str) -> Iterator[Client]:
    client = Client(api_token=token, base_url=service.url)
    with closing(client._client):  # it has no public way to be closed
        yield client


def token(conn: Connection, *, rate_per_minute: int = 0) -> str:
    return create_token(conn, secrets.token_hex(4), rate_per_minute=rate_per_minute)


def inputs() -> dict[str, str]:
    """Nobody asked for that before: it is drawn, not taken from the cache of results."""
    return {"prompt": secrets.token_hex(8)}


def made_by(conn: Connection, prompt: str) -> int:
    row = conn.execute("SELECT count(*) AS n FROM predictions WHERE input->>'prompt' = %s", (prompt,)).fetchone()
    assert row is not None
    number: int = row["n"]
    return number


@pytest.mark.parametrize("wrong", ["r8_theirs", "dr_" + "x" * 40])
def test_replicate_without_a_good_token_is_401(guarded: Service, wrong: str) -> None:
    with replicate(guarded, wrong) as client, pytest.raises(ReplicateError) as refused:
        client.run(MODEL, input=inputs())
    assert refused.value.status == 401
    assert refused.value.title == "Unauthorized"


def test_replicate_over_its_rate_is_429_and_says_when(guarded: Service, database: Connection) -> None:
    """1.x does not repeat a POST by itself; what it raises says how long to wait."""
    given = inputs()
    with replicate(guarded, token(database, rate_per_minute=1)) as client:
        client.predictions.create(model=MODEL, input=given)
        with pytest.raises(ReplicateError) as refused:
            client.predictions.create(model=MODEL, input=given)
    assert refused.value.status == 429
    assert "try again in" in (refused.value.detail or "")
    assert made_by(database, given["prompt"]) == 1


def test_replicate_meets_a_bug_as_500_without_its_details(guarded: Service, database: Connection) -> None:
    with replicate(guarded, token(database)) as client, pytest.raises(ReplicateError) as failed:
        client.run(MODEL, input={"prompt": BREAKS})
    assert failed.value.status == 500
    assert failed.value.detail == "Something broke here; the log of the API says what."


def test_replicate_waits_as_long_as_it_is_told_while_postgres_is_away(
    guarded: Service, services: RunningServices, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = database.info.dbname
    slept: list[float] = []

    def come_back(seconds: float) -> None:
        slept.append(seconds)
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")

    with (
        connect(services.database_url, application_name="test") as admin,
        replicate(guarded, token(database)) as client,
    ):
        made = client.predictions.create(model=MODEL, input=inputs())
        admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
        admin.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND application_name = %s",
            (name, "darkroom api"),
        )
        monkeypatch.setattr("replicate.client.time.sleep", come_back)
        try:
            assert client.predictions.get(made.id).id == made.id
        finally:
            admin.execute(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")
    assert slept
    assert set(slept) == {2.0}  # Retry-After


def generate(service: Service, token: str, prompt: str, *, max_retries: int = 2) -> None:
    with OpenAI(api_key=token, base_url=f"{service.url}/v1", max_retries=max_retries) as client:
        client.images.generate(model=MODEL, prompt=prompt)


def test_openai_without_a_good_token_is_401(guarded: Service) -> None:
    with pytest.raises(openai.AuthenticationError) as refused:
        generate(guarded, "sk-theirs", "x")
    assert "no token of Darkroom" in refused.value.message
    assert "sk-theirs" not in refused.value.message


def test_openai_over_its_rate_is_a_rate_limit_error(guarded: Service, database: Connection) -> None:
    mine = token(database, rate_per_minute=1)
    generate(guarded, mine, inputs()["prompt"])
    with pytest.raises(openai.RateLimitError) as refused:
        generate(guarded, mine, inputs()["prompt"], max_retries=0)
    assert refused.value.type == "rate_limit_error"
    assert 1 <= int(refused.value.response.headers["Retry-After"]) <= 60


def test_openai_waits_as_long_as_it_is_told_and_then_draws_once(
    guarded: Service, database: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, prompt = token(database, rate_per_minute=1), inputs()["prompt"]
    generate(guarded, mine, inputs()["prompt"])
    slept: list[float] = []

    def let_a_minute_pass(seconds: float) -> None:
        slept.append(seconds)
        database.execute("UPDATE rate_buckets SET refilled_at = refilled_at - interval '60 s'")

    monkeypatch.setattr("openai._base_client.time.sleep", let_a_minute_pass)
    generate(guarded, mine, prompt)
    [seconds] = slept
    assert seconds == int(seconds)  # Retry-After, as it is: its own back-off would be a fraction
    assert made_by(database, prompt) == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_openai_meets_a_bug_as_an_internal_error_without_its_details(
    guarded: Service, database: Connection, monkeypatch: pytest.MonkeyPatch, retries: int
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("openai._base_client.time.sleep", slept.append)
    with pytest.raises(openai.InternalServerError) as failed:
        generate(guarded, token(database), BREAKS, max_retries=retries)
    assert failed.value.type == "server_error"
    assert "Something broke here" in failed.value.message
    assert len(slept) == retries
    assert made_by(database, BREAKS) == 0
