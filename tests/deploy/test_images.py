"""The images' very install steps, and what their ENTRYPOINT does for an ordinary user who may write nowhere.

The short form installs nothing: it runs the copied project on the packages of this environment, with the blank
engine. `make test-images` carries out the whole Dockerfiles, torch and all, and draws with the pocket model.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import requests

from cli.embedded.ports import free_ports
from tests.deploy.dockerfile import BuiltImage, health_check
from tests.deploy.outside_servers import outside_servers
from tests.support.eventually import eventually

WHOLE = "DARKROOM_TEST_IMAGES" in os.environ
PATIENCE_S = 150.0  # of a machine that has much else to do
BLANK = """
[models."test/blank"]
engine = "blank"
defaults = { width = 64, height = 64, num_inference_steps = 4 }
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that any account may look into; pytest's own are for their owner only."""
    made = Path(tempfile.mkdtemp(prefix="dr-images-"))
    made.chmod(0o755)
    yield made
    shutil.rmtree(made, ignore_errors=True)


def ordinary_user() -> dict[str, Any]:
    """The options of Popen: another account where we are root, ourselves otherwise."""
    if os.getuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def public_python() -> Path:
    """A Python of our version that the ordinary user may run; root's own may lie where nobody else can look."""
    for candidate in (sys._base_executable, "/usr/bin/python3"):  # type: ignore[attr-defined] # typeshed leaves it out
        program = f"import ensurepip, sys; sys.exit(sys.version_info[:2] != {sys.version_info[:2]})"
        with suppress(OSError):
            # The folder, too, has to be one where that user may be.
            if subprocess.run([candidate, "-c", program], cwd="/", **ordinary_user(), check=False).returncode == 0:
                return Path(candidate).resolve()
    pytest.skip("needs a Python that an ordinary user may run")


@contextmanager
def running(
    command: list[str], *, folder: Path, environment: dict[str, str], log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=output,
            stderr=subprocess.STDOUT, **ordinary_user(),
        )  # fmt: skip
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


def terminate(process: subprocess.Popen[bytes]) -> int:
    process.send_signal(signal.SIGTERM)
    return process.wait(PATIENCE_S)


def draw(url: str, model: str) -> dict[str, Any]:
    """Submit once the API is ready, and wait for the end."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with suppress(requests.RequestException):
            if requests.get(f"{url}/readyz", timeout=10).ok:
                break
        assert time.monotonic() < deadline, "the API did not get ready"
        time.sleep(0.1)
    body = {"model": model, "input": {"prompt": "a red circle on a blue background"}}
    answer = requests.post(f"{url}/v1/predictions", json=body, timeout=PATIENCE_S)
    assert answer.status_code == 201, answer.text
    prediction: dict[str, Any] = answer.json()
    while prediction["status"] not in {"succeeded", "failed", "canceled"}:
        assert time.monotonic() < deadline + PATIENCE_S, prediction
        time.sleep(0.1)
        prediction = requests.get(prediction["urls"]["get"], timeout=PATIENCE_S).json()
    return prediction


@pytest.mark.timeout(3000 if WHOLE else 900)
def test_from_the_install_steps_to_a_picture_to_a_clean_end(folder: Path) -> None:
    python = public_python()
    packages = None if WHOLE else Path(sysconfig.get_path("purelib"))
    image = BuiltImage("api.Dockerfile", folder / "api", python=python, packages=packages)
    worker_image = BuiltImage("worker.Dockerfile", folder / "worker", python=python) if WHOLE else image
    for built in (image, worker_image):
        built.make_read_only()
    before = image.files() | worker_image.files()
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    scratch = folder / "tmp"
    scratch.mkdir()
    scratch.chmod(0o1777)
    with outside_servers() as servers, ExitStack() as stack:
        own = {**servers, "PUBLIC_URL": url, "TMPDIR": str(scratch), "S3_PREFIX": "", "AUTH": "none"}
        catalog = folder / "models.toml"
        if not WHOLE:
            catalog.write_text(BLANK)
            own["MODELS"] = str(catalog)
        environment = image.environment | own

        def start(role: str, command: list[str], environment: dict[str, str]) -> subprocess.Popen[bytes]:
            return stack.enter_context(
                running(command, folder=image.working_folder, environment=environment, log=folder / f"{role}.log")
            )

        prepare = start("prepare", image.command("prepare"), environment)
        assert prepare.wait(PATIENCE_S) == 0, (folder / "prepare.log").read_text()
        api = start("api", image.command("api", "--host", "127.0.0.1", "--port", str(port)), environment)
        courier = start("courier", image.command("courier"), environment)
        volume = folder / "volume"  # the image's /models, which belongs to the account there
        volume.mkdir()
        volume.chmod(0o1777)
        in_volume = {
            name: value.replace("/models", str(volume))
            for name, value in worker_image.environment.items()
            if value.startswith("/models/")
        }
        worker = start("worker", worker_image.command("worker"), worker_image.environment | own | in_volume)

        prediction = draw(url, "darkroom/pocket" if WHOLE else "test/blank")
        assert prediction["status"] == "succeeded", prediction
        picture = requests.get(prediction["output"][0], timeout=PATIENCE_S).content
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")

        _, *health = health_check("worker.Dockerfile")
        check = start("check", worker_image.command(*health), worker_image.environment | own)
        assert check.wait(PATIENCE_S) == 0, (folder / "check.log").read_text()
        eventually(lambda: b"courier started" in (folder / "courier.log").read_bytes())  # it heeds signals now
        exit_codes = [terminate(process) for process in (worker, courier, api)]
        assert exit_codes == [0, 0, 0], "\n".join(log.read_text() for log in folder.glob("*.log"))
        check = start("check-after", worker_image.command(*health), worker_image.environment | own)
        assert (check.wait(PATIENCE_S), (folder / "check-after.log").read_text()) == (1, "")
        for log in folder.glob("*.log"):
            assert "Traceback" not in log.read_text()
            assert servers["S3_SECRET_ACCESS_KEY"] not in log.read_text()
            assert servers["DATABASE_URL"] not in log.read_text()
    assert image.files() | worker_image.files() == before
