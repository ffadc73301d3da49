"""A pre-release of `replicate` 2.x, in an environment of its own, against the running service. Part of the long run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.serving import Service

VERSION = "2.0.0b4"
SCRIPT = Path(__file__).parent / "replicate_2x.py"


@pytest.fixture(scope="session")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python that has the client: REPLICATE_2X_PYTHON, or one that is made here."""
    if given := os.environ.get("REPLICATE_2X_PYTHON"):
        return Path(given)
    if "DARKROOM_LONG_TESTS" not in os.environ:
        pytest.skip("installing replicate 2.x takes a minute: set DARKROOM_LONG_TESTS=1")
    folder = tmp_path_factory.mktemp("replicate-2x") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True, timeout=300)
    found = folder / "bin" / "python"
    installed = subprocess.run(
        [str(found), "-m", "pip", "install", "--quiet", f"replicate=={VERSION}"],
        capture_output=True,
        timeout=600,
        check=False,
    )
    if installed.returncode != 0:
        pytest.skip(f"pip could not install replicate=={VERSION}: no index at hand?")
    return found


@pytest.mark.timeout(900)
def test_every_way_in_which_the_client_is_used(python: Path, service: Service) -> None:
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        [str(python), str(SCRIPT)],
        env=clean | {"REPLICATE_BASE_URL": f"{service.url}/v1", "REPLICATE_API_TOKEN": "any"},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    said: dict[str, Any] = json.loads(run.stdout)
    assert said.pop("bytes") > 50
    assert said.pop("listed") >= 5
    assert said == {
        "run": 1,
        "run_by_version": 1,
        "created": "starting",
        "waited": "succeeded",
        "preferred": "succeeded",
        "canceled": "canceled",
        "sent_twice": 1,
        "models": ["blank", "nobody", "slow"],
        "versions": 1,
        "account": "darkroom",
        "secret": "whsec_",
        "used": 1,
        "missing": 404,
        "invalid": 422,
    }
