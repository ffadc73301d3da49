"""The running services for all the tests of clients in a test process, and the client that is not Python."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.postgres.database import Connection, connect
from tests.clients.guarding import guard
from tests.conftest import RunningServices
from tests.serving import Service, serving

NPM_REPLICATE = "1.4.0"


@pytest.fixture(scope="session")
def service(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(services, tmp_path_factory.mktemp("service"), courier=True, api_max_streams=60) as running:
        yield running


@pytest.fixture(scope="session")
def guarded(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """One that wants tokens, and breaks at one prompt."""
    with serving(services, tmp_path_factory.mktemp("guarded")) as running:
        guard(running)
        yield running


@pytest.fixture
def database(guarded: Service) -> Iterator[Connection]:
    """The database of the guarded service."""
    with connect(guarded.settings.database_url, application_name="test") as conn:
        yield conn


@pytest.fixture(scope="session")
def npm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the client is installed."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed: Replicate's JavaScript client is not tried")
    found = tmp_path_factory.mktemp("npm")
    (found / "package.json").write_text('{"private": true, "type": "module"}')
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent", f"replicate@{NPM_REPLICATE}"],
        cwd=found,
        capture_output=True,
        timeout=120,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm could not install replicate@{NPM_REPLICATE}: no registry at hand?")
    return found
