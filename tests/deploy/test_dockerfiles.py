"""The Dockerfiles, looked at without an engine."""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml

from tests.deploy.dockerfile import DEPLOY, REPOSITORY, copied, health_check, read
from tests.support.proxies import proxy_settings
from tests.support.receivers import running

BROKEN_PROXY = proxy_settings("http://127.0.0.1:1")
NAMES = ["api.Dockerfile", "worker.Dockerfile"]


def test_hadolint_finds_nothing() -> None:
    hadolint = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run(
        [hadolint, *(DEPLOY / name for name in NAMES)], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", NAMES)
def test_everything_that_is_copied_exists_and_passes_dockerignore(name: str) -> None:
    allowed = [line[1:] for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in copied(read(name)[0]):
        assert (REPOSITORY / source).exists() or source == "models/pocket", source  # tests/models looks after that
        assert any(fnmatch.fnmatch(source, pattern) for pattern in allowed), source


@pytest.mark.parametrize("name", NAMES)
def test_every_package_of_the_project_is_copied(name: str) -> None:
    """The courier has the API's image; a package that is left out is noticed only when its command is run."""
    tool = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]
    packages = {pattern.removesuffix("*") for pattern in tool["setuptools"]["packages"]["find"]["include"]}
    stage = read(name)[0]
    assert packages <= set(copied(stage))
    (compiled,) = (words.partition("compileall ")[2].split() for words in stage.of("RUN") if "compileall" in words)
    assert packages <= set(compiled)


@pytest.mark.parametrize("name", NAMES)
def test_darkroom_runs_without_a_shell_as_an_ordinary_user(name: str) -> None:
    final = read(name)[-1]
    assert json.loads(final.last("ENTRYPOINT")) == ["tini", "--", "darkroom"]
    assert isinstance(json.loads(final.last("CMD")), list)
    assert final.last("USER") == "10001:10001"
    assert "SHELL" not in dict(final.steps)


def test_the_worker_image_asks_its_worker_how_it_is() -> None:
    assert health_check("worker.Dockerfile") == ["darkroom", "workers", "--check"]


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1)])
def test_the_api_image_asks_its_api_how_it_is_and_never_a_proxy(status: int, exit_code: int) -> None:
    with answering(status) as (port, paths):
        python, *words = [
            word.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for word in health_check("api.Dockerfile")
        ]
        assert python == "python"
        done = subprocess.run([sys.executable, *words], env=os.environ | BROKEN_PROXY, timeout=60, check=False)
        assert (done.returncode, paths) == (exit_code, ["/healthz"])


def test_the_shell_check_of_the_s3_server_asks_no_proxy() -> None:
    if (wget := shutil.which("wget")) is None:
        pytest.skip("needs wget")
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    _, command = services["s3"]["healthcheck"]["test"]
    with answering(200) as (port, paths):
        command = command.replace("127.0.0.1:8333", f"127.0.0.1:{port}")
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            env={"PATH": str(Path(wget).parent)} | BROKEN_PROXY, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert (done.returncode, paths) == (0, ["/healthz"])


@pytest.mark.parametrize("name", NAMES)
def test_every_install_is_pinned_by_the_constraints_and_compiles_its_bytecode(name: str) -> None:
    runs = [words for words in read(name)[0].of("RUN") if "pip install" in words]
    assert runs
    for words in runs:
        assert "-c constraints.txt" in words or "--no-deps" in words
        assert "--no-compile" not in words
    assert "compileall" in runs[-1]


def test_the_api_image_gets_no_torch_and_the_worker_image_does() -> None:
    assert "torch" not in requirements()
    assert "torch" in requirements("worker")


def test_the_images_install_what_the_project_says_it_needs() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert requirements("worker") == project["dependencies"] + project["optional-dependencies"]["worker"]


@pytest.mark.parametrize("name", NAMES)
def test_a_python_that_the_project_supports_is_the_base(name: str) -> None:
    text = (DEPLOY / name).read_text()
    assert "ARG PYTHON=3.11-" in text
    assert [stage.of("FROM")[0].partition(" ")[0] for stage in read(name)] == ["python:${PYTHON}"] * 2


def requirements(*extras: str) -> list[str]:
    pyproject = (REPOSITORY / "pyproject.toml").read_text()
    command = [sys.executable, str(DEPLOY / "requirements.py"), *extras]
    done = subprocess.run(command, input=pyproject, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    """A server on a port of its own that answers every GET with `status`; and the paths that it was asked for."""
    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server, running(server):
        yield server.server_port, paths
