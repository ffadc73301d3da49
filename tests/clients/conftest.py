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
from tests.support.serving import Service, serving

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


@pytest.fixture(autouse=True)
def an_empty_queue_after_each_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """Nothing waits when a test ends: places in the queue and estimates count what the test before left behind."""
    yield
    for running in {"service", "guarded"}.intersection(request.fixturenames):
        service: Service = request.getfixturevalue(running)
        with connect(service.settings.database_url, application_name="test") as conn:
            conn.execute("DELETE FROM predictions WHERE model = 'darkroom/nobody' AND completed_at IS NULL")


@pytest.fixture
def database(guarded: Service) -> Iterator[Connection]:
    """The database of the guarded service."""
    with connect(guarded.settings.database_url, application_name="test") as conn:
        yield conn


@pytest.fixture(scope="session")
def npm_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which Replicate's client is installed."""
    return install_from_npm(tmp_path_factory.mktemp("npm"), f"replicate@{NPM_REPLICATE}")


def install_from_npm(folder: Path, package: str) -> Path:
    """The folder, with the package in it; the test is skipped where that can't be had."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip(f"node and npm are not installed: {package} is not tried")
    (folder / "package.json").write_text('{"private": true, "type": "module"}')
    installed = subprocess.run(
        ["npm", "install", "--no-audit", "--no-fund", "--silent", package],
        cwd=folder,
        capture_output=True,
        timeout=120,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip(f"npm could not install {package}: no registry at hand?")
    return folder
