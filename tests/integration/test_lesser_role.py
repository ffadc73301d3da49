"""The API, workers and a courier with no more rights than docs/deploy.md grants."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import psycopg
import pytest
import requests

from api.settings import ApiSettings
from cli.embedded.app_role import GRANTS, ROLE
from courier.retention import retain_once
from storage.access.tokens import create_token
from storage.postgres.database import connect
from storage.predictions.render import open_renderer
from storage.predictions.rescue import rescue_once
from storage.s3.bucket import Bucket
from tests.conftest import REPOSITORY, RunningServices
from tests.support.receivers import Receiver
from tests.support.serving import serving


def grants(role: str, database: str) -> str:
    """What the page tells to run, for a role and a database of the test's own."""
    text = (REPOSITORY / "docs" / "deploy.md").read_text()
    found = re.search(r"### A role that may do less.*?```sql\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return found.group(1).replace("darkroom_app", role).replace("DATABASE darkroom", f"DATABASE {database}")


@pytest.fixture
def role(services: RunningServices) -> Iterator[str]:
    """The name of a role that is gone after the test; the database with its grants is dropped before."""
    name = f"r{secrets.token_hex(6)}"
    yield name
    with psycopg.connect(services.database_url, autocommit=True) as admin:
        admin.execute(f"DROP ROLE IF EXISTS {name}")


def test_all_of_it_works_with_the_rights_that_the_page_grants(
    services: RunningServices, role: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def as_role(settings: ApiSettings) -> ApiSettings:
        url = urlsplit(settings.database_url)
        with psycopg.connect(settings.database_url, autocommit=True) as owner:
            owner.execute(grants(role, url.path.removeprefix("/")))
        lesser = url._replace(netloc=f"{role}:…@{url.netloc.rpartition('@')[2]}").geturl()
        return settings.model_copy(update={"database_url": lesser})

    receiver = Receiver()
    with receiver.serving(), serving(services, tmp_path, courier=True, as_role=as_role) as service:
        settings = service.settings
        body = {"model": "darkroom/blank", "input": {"prompt": "a red circle", "seed": 1}, "webhook": receiver.url}
        for _ in range(2):  # drawn, and found
            answer = requests.post(
                f"{settings.public_url}/v1/predictions", json=body, headers={"Prefer": "wait=30"}, timeout=60
            )
            assert answer.json()["status"] == "succeeded", answer.text
        receiver.wait_for(2)
        canceled = requests.post(
            f"{settings.public_url}/v1/predictions",
            json={"model": "darkroom/nobody", "input": {"prompt": "a red circle"}},
            timeout=30,
        ).json()
        requests.post(canceled["urls"]["cancel"], timeout=30).raise_for_status()
        for path in ("/v1/predictions", "/v1/webhook_deliveries", "/v1/usage", "/v1/status", "/metrics", "/readyz"):
            requests.get(settings.public_url + path, timeout=30).raise_for_status()
        with connect(settings.database_url, application_name="test") as conn:
            assert conn.execute("SELECT current_user AS name").fetchone() == {"name": role}
            rescue_once(conn, open_renderer(settings, conn), expire=True)
            conn.execute("UPDATE predictions SET completed_at = completed_at - interval '30 days'")
            retain_once(conn, Bucket(settings), settings, sweep=True)
            create_token(conn, "mine")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                conn.execute("ALTER TABLE predictions ADD COLUMN more text")
    assert "permission denied" not in "".join(capfd.readouterr())


def test_up_grants_its_embedded_role_exactly_what_the_page_does() -> None:
    def statements(text: str) -> list[str]:
        return [line for line in text.replace("DATABASE darkroom ", "DATABASE {database} ").splitlines() if line]

    page = statements(grants(ROLE, "darkroom"))
    assert page[0].startswith(f"CREATE ROLE {ROLE} LOGIN PASSWORD")
    assert page[1:] == statements(GRANTS.replace("{role}", ROLE))
