"""Clients that meet 401, 429, 500 and 503: the right exception, what it says, and how long they wait."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import DefaultHttpxClient, OpenAI
from replicate.client import Client
from replicate.exceptions import ReplicateError

from storage.postgres.database import Connection
from tests.clients.guarding import BREAKS, MODEL, inputs, made_by, postgres_away, token
from tests.clients.scripts import said_by
from tests.conftest import RunningServices
from tests.support.serving import Service


@contextmanager
def replicate(service: Service, token: str) -> Iterator[Client]:
    client = Client(api_token=token, base_url=service.url)
    with closing(client._client):  # it has no public way to be closed
        yield client


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
    """Its sleep is replaced: 1.x has no setting for it, and only what it asks of `sleep` says how long it waits."""
    slept: list[float] = []
    with replicate(guarded, token(database)) as client:
        made = client.predictions.create(model=MODEL, input=inputs())
        with postgres_away(services, guarded) as come_back:

            def sleep(seconds: float) -> None:
                slept.append(seconds)
                come_back()

            monkeypatch.setattr("replicate.client.time.sleep", sleep)
            assert client.predictions.get(made.id).id == made.id
    assert slept
    assert set(slept) == {2.0}  # Retry-After


def generate(service: Service, token: str, prompt: str, *, max_retries: int = 0) -> None:
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
        generate(guarded, mine, inputs()["prompt"])
    assert refused.value.type == "rate_limit_error"
    assert 1 <= int(refused.value.response.headers["Retry-After"]) <= 60


def test_openai_waits_as_long_as_it_is_told_and_then_draws_once(guarded: Service, database: Connection) -> None:
    mine, prompt = token(database, rate_per_minute=60), inputs()["prompt"]
    generate(guarded, mine, inputs()["prompt"])
    database.execute("""UPDATE rate_buckets SET "left" = 0, refilled_at = clock_timestamp()""")
    with OpenAI(api_key=mine, base_url=f"{guarded.url}/v1") as client:
        answer = client.images.with_raw_response.generate(model=MODEL, prompt=prompt)
    assert (
        answer.retries_taken == 1
    )  # after Retry-After, 1 s; its own back-off would come too early and be refused again
    assert made_by(database, prompt) == 1


@pytest.mark.parametrize("retries", [0, 1])
def test_openai_meets_a_bug_as_an_internal_error_without_its_details(
    guarded: Service, database: Connection, retries: int
) -> None:
    asked: list[object] = []
    counting = DefaultHttpxClient(event_hooks={"request": [asked.append]})
    with (
        OpenAI(
            api_key=token(database), base_url=f"{guarded.url}/v1", max_retries=retries, http_client=counting
        ) as client,
        pytest.raises(openai.InternalServerError) as failed,
    ):
        client.images.generate(model=MODEL, prompt=BREAKS)
    assert failed.value.type == "server_error"
    assert "Something broke here" in failed.value.message
    assert len(asked) == 1 + retries
    assert made_by(database, BREAKS) == 0


def test_openai_meets_a_postgres_that_is_away_as_503_and_learns_when_to_try_again(
    guarded: Service, services: RunningServices, database: Connection
) -> None:
    mine = token(database)
    with postgres_away(services, guarded), pytest.raises(openai.InternalServerError) as failed:
        generate(guarded, mine, inputs()["prompt"])
    assert failed.value.status_code == 503
    assert failed.value.response.headers["Retry-After"] == "2"


NPM = """
import Replicate from "replicate";
const [baseUrl, auth, text] = process.argv.slice(2);
const asked = [];
const counting = (url, init) => (asked.push(init.method), fetch(url, init));
const replicate = new Replicate({ auth, baseUrl, fetch: counting });
const said = { answers: [] };
for (const prompt of JSON.parse(text)) {
  try {
    await replicate.predictions.create({ model: "darkroom/nobody", input: { prompt } });
    said.answers.push(201);
  } catch (error) {
    said.answers.push(error.response.status);
    said.message = error.message;
    said.retry_after = error.response.headers.get("Retry-After");
  }
}
said.asked = asked.length;
console.log(JSON.stringify(said));
"""


def npm_creates(folder: Path, service: Service, token: str, *prompts: str) -> dict[str, Any]:
    """What npm's `replicate` got for a prediction of each of these prompts."""
    (folder / "refusals.mjs").write_text(NPM)
    return said_by(["node", "refusals.mjs", f"{service.url}/v1", token, json.dumps(prompts)], cwd=folder)


def test_npm_without_a_good_token_is_401(npm_folder: Path, guarded: Service) -> None:
    said = npm_creates(npm_folder, guarded, "r8_theirs", "x")
    assert said["answers"] == [401]
    assert said["asked"] == 1
    assert "Unauthorized" in said["message"]


def test_npm_over_its_rate_is_429_after_repeats_that_draw_nothing(
    npm_folder: Path, guarded: Service, database: Connection
) -> None:
    given, refused = inputs()["prompt"], inputs()["prompt"]
    said = npm_creates(npm_folder, guarded, token(database, rate_per_minute=1), given, refused)
    assert said["answers"] == [201, 429]
    assert said["asked"] == 1 + 6  # it repeats at once, whatever it is told: docs/clients.md
    assert "try again in" in said["message"]
    assert 1 <= int(said["retry_after"]) <= 60
    assert [made_by(database, prompt) for prompt in (given, refused)] == [1, 0]


def test_npm_meets_a_bug_as_500_and_does_not_post_again(
    npm_folder: Path, guarded: Service, database: Connection
) -> None:
    said = npm_creates(npm_folder, guarded, token(database), BREAKS)
    assert said["answers"] == [500]
    assert said["asked"] == 1
    assert "Something broke here" in said["message"]


def test_npm_meets_a_postgres_that_is_away_as_503(
    npm_folder: Path, guarded: Service, services: RunningServices, database: Connection
) -> None:
    mine = token(database)
    with postgres_away(services, guarded):
        said = npm_creates(npm_folder, guarded, mine, "x")
    assert said["answers"] == [503]
    assert said["retry_after"] == "2"
