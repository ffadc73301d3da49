"""One running service for all the tests of clients in a test process."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import RunningServices
from tests.serving import Service, serving

NPM_REPLICATE = "1.4.0"


@pytest.fixture(scope="session")
def service(services: RunningServices, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(services, tmp_path_factory.mktemp("service"), courier=True, API_MAX_STREAMS="60") as running:
        yield running


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
