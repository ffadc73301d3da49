"""A request whose answer was lost is sent again, by its client or its user: with an Idempotency-Key it is drawn once.

How each client is told the key stands in docs/clients.md.
"""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from openai import OpenAI
from replicate.client import Client

from storage.postgres.database import Connection, connect
from tests.clients.guarding import MODEL, made_by
from tests.clients.lost_answers import Line, losing_answers
from tests.support.serving import Service


@pytest.fixture
def line(service: Service) -> Iterator[Line]:
    with losing_answers(service) as between:
        yield between


@pytest.fixture
def database(service: Service) -> Iterator[Connection]:
    with connect(service.settings.database_url, application_name="test") as conn:
        yield conn


@pytest.fixture
def prompt() -> str:
    return secrets.token_hex(8)


@pytest.mark.parametrize(("headers", "drawn"), [({"Idempotency-Key": uuid4().hex}, 1), ({}, 2)], ids=["key", "no key"])
def test_openai_sends_it_again(
    line: Line, database: Connection, prompt: str, headers: dict[str, str], drawn: int
) -> None:
    with OpenAI(api_key="any", base_url=f"{line.url}/v1", max_retries=1) as client:
        answer = client.images.generate(model=MODEL, prompt=prompt, extra_headers=headers)
    assert answer.data
    assert len(line.posts) == 2
    assert made_by(database, prompt) == drawn


def test_replicate_leaves_it_to_its_user(line: Line, database: Connection, prompt: str) -> None:
    """1.x repeats no POST. It takes headers for all that a client sends, so a key needs a client of its own."""
    client = Client(api_token="any", base_url=line.url, headers={"Idempotency-Key": uuid4().hex})
    with closing(client._client):  # it has no public way to be closed
        with pytest.raises(httpx.RemoteProtocolError):
            client.predictions.create(model=MODEL, input={"prompt": prompt})
        assert len(line.posts) == 1
        prediction = client.predictions.create(model=MODEL, input={"prompt": prompt})
        prediction.wait()
    assert prediction.status == "succeeded"
    assert made_by(database, prompt) == 1


NPM = """
import Replicate from "replicate";
const [baseUrl, prompt, key] = process.argv.slice(2);
const headers = key ? { "Idempotency-Key": key } : {};
const send = (url, init) => fetch(url, { ...init, headers: { ...init.headers, ...headers } });
const replicate = new Replicate({ auth: "any", baseUrl, fetch: send });
const prediction = await replicate.predictions.create({ model: "darkroom/blank", input: { prompt } });
console.log(JSON.stringify((await replicate.wait(prediction)).status));
"""


@pytest.mark.parametrize(("key", "drawn"), [(uuid4().hex, 1), ("", 2)], ids=["key", "no key"])
def test_npm_sends_it_again(
    npm_folder: Path, line: Line, database: Connection, prompt: str, key: str, drawn: int
) -> None:
    (npm_folder / "repeat.mjs").write_text(NPM)
    command = ["node", "repeat.mjs", f"{line.url}/v1", prompt, key]
    run = subprocess.run(command, cwd=npm_folder, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == "succeeded"
    assert len(line.posts) == 2
    assert made_by(database, prompt) == drawn
