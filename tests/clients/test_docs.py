"""The examples of docs/clients.md, run as they stand there, but for the address and the model."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from tests.support.serving import Service

EXAMPLES = re.findall(
    r"^```(python|js|sh)\n(.*?)^```$", (REPOSITORY / "docs" / "clients.md").read_text(), re.MULTILINE | re.DOTALL
)


@pytest.mark.parametrize(("language", "text"), EXAMPLES, ids=[f"{n}-{kind}" for n, (kind, _) in enumerate(EXAMPLES)])
def test_an_example_works(
    language: str, text: str, service: Service, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    program = text.replace("http://127.0.0.1:8000", service.url)
    program = program.replace("darkroom/pocket", "darkroom/blank").replace("dr_…", "dr_token")
    folder = tmp_path
    match language:
        case "python":
            command = [sys.executable, "-W", "error", "-W", "default::ResourceWarning", "-c", program]
        case "sh":
            if shutil.which("curl") is None:
                pytest.skip("curl is not installed")
            command = ["bash", "-euo", "pipefail", "-c", program]
        case _:
            folder = request.getfixturevalue("npm_folder")
            (folder / "example.mjs").write_text(program)
            command = ["node", "example.mjs"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()
