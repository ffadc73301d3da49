"""One service with tokens, a courier and workers for all attacks of a test process; after each, a look at the harm."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
import requests

from storage.access.tokens import create_token
from storage.postgres.database import connect
from tests.attack.target import MODEL, PROMPT, TIMEOUT_S, Client, Target
from tests.conftest import RunningServices
from tests.support.serving import serving


@pytest.fixture(scope="session")
def attacked(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """The service, with a picture that the victim has drawn."""
    folder = tmp_path_factory.mktemp("attacked")
    with serving(services, folder, courier=True, api_max_streams=60) as service:
        with connect(service.settings.database_url, application_name="test") as conn:
            victim = Client(service.url, create_token(conn, "victim"))
            attacker = Client(service.url, create_token(conn, "attacker"))
        made = victim.send(
            "POST",
            "/v1/predictions",
            json={"model": MODEL, "input": {"prompt": PROMPT, "seed": 7}},
            headers={"Prefer": "wait=60"},
        ).json()
        assert made["status"] == "succeeded", made
        image = requests.get(made["output"][0], timeout=TIMEOUT_S).content
        yield Target(service, victim, attacker, made, hashlib.sha256(image).hexdigest())


@pytest.fixture
def target(attacked: Target) -> Iterator[Target]:
    """The same, and after each test nobody was harmed."""
    yield attacked
    attacked.assert_unharmed()
