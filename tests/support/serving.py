"""The whole service in processes of its own, over a real socket: for tests that talk to it as clients do."""

from __future__ import annotations

import http.client
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from api.settings import ApiSettings
from cli.embedded.ports import free_ports
from tests.conftest import REPOSITORY, RunningServices, _create_database, _drop_database

# Two models, since a bare version must find its own; the slow one is for what has to be seen or canceled meanwhile.
CATALOG = """
[models."darkroom/blank"]
engine = "blank"
version = "1"
description = "Plain sheets."
aliases = ["dall-e-3", "gpt-image-1"]
takes = ["image", "mask"]
defaults = { width = 64, height = 64, num_inference_steps = 4 }
limits = { multiple_of = 16, max_steps = 50, max_side = 512, max_pixels = 262144, max_outputs = 10 }
blank = { step_s = 0.02 }

[models."darkroom/slow"]
engine = "blank"
version = "slow-1"
takes = ["image"]
defaults = { width = 64, height = 64, num_inference_steps = 8 }
limits = { multiple_of = 16, max_steps = 50, max_input_images = 4 }
blank = { step_s = 0.25 }

[models."darkroom/nobody"]
engine = "blank"
version = "1"
takes = ["image"]

[models."darkroom/nobody".loras]
pastel = { source = "pastel.safetensors" }
outlined = { source = "outlined.safetensors", scale = 0.8 }
"""


@dataclass(frozen=True)
class Service:
    """A running service; `darkroom/nobody` is a model that no worker serves."""

    settings: ApiSettings
    environment: dict[str, str]

    @property
    def url(self) -> str:
        return self.settings.public_url


def run(command: str, environment: dict[str, str], *options: str, log: Path | None = None) -> subprocess.Popen[bytes]:
    """A `darkroom` command in a process of its own; it writes into `log`, or where this process writes."""
    with ExitStack() as opened:
        return subprocess.Popen(
            [sys.executable, "-m", "cli.main", command, *options],
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=opened.enter_context(log.open("wb")) if log is not None else None,
        )


def stop(processes: list[subprocess.Popen[bytes]]) -> None:
    """Ask all of them at once to end, and wait for it."""
    for process in processes:
        process.terminate()
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(20)
        if process.poll() is None:
            process.kill()
            process.wait()


@contextmanager
def serving(
    services: RunningServices,
    folder: Path,
    *,
    workers: bool = True,
    courier: bool = False,
    api_log: Path | None = None,
    as_role: Callable[[ApiSettings], ApiSettings] = lambda settings: settings,
    **more: int | str,
) -> Iterator[Service]:
    """An API, two workers, and a courier where it is asked for, on a database of their own.

    `more`: further settings of the API. `api_log`: where the API writes instead of stderr. `as_role` may change the
    settings when the database is there.
    """
    database = f"t{secrets.token_hex(6)}"
    _create_database(services, database, template="darkroom_template")
    port = free_port()
    catalog = folder / "models.toml"
    catalog.write_text(CATALOG)
    settings = services.settings_for(database, public_url=f"http://127.0.0.1:{port}", models=catalog, **more)
    processes: list[subprocess.Popen[bytes]] = []
    try:
        settings = as_role(settings)
        environment = environment_of(settings)
        environment |= {name.upper(): str(value) for name, value in more.items()}
        processes.append(run("api", environment, "--port", str(port), log=api_log))
        if workers:
            processes += [run("worker", environment, "--model", name) for name in ("darkroom/blank", "darkroom/slow")]
        if courier:
            processes.append(run("courier", environment))
        wait_until_ready(settings.public_url, processes[0])
        yield Service(settings, environment)
    finally:
        stop(processes)
        _drop_database(services, database)


def environment_of(settings: ApiSettings) -> dict[str, str]:
    secret = settings.s3_secret_access_key
    assert secret is not None
    return os.environ | {
        "PYTHONPATH": str(REPOSITORY),
        "DATABASE_URL": settings.database_url,
        "DATABASE_DIRECT_URL": settings.database_direct_url,
        "S3_ENDPOINT_URL": settings.s3_endpoint_url or "",
        "S3_ACCESS_KEY_ID": settings.s3_access_key_id or "",
        "S3_SECRET_ACCESS_KEY": secret.get_secret_value(),
        "S3_BUCKET": settings.s3_bucket,
        "S3_PREFIX": settings.s3_prefix,
        "WEBHOOK_ALLOW": settings.webhook_allow,
        "PUBLIC_URL": settings.public_url,
        "MODELS": str(settings.models),
        "LOG_LEVEL": "WARNING",
    }


def free_port() -> int:
    return free_ports(1)[0]


def wait_until_ready(url: str, api: subprocess.Popen[bytes], *, timeout_s: float = 180) -> None:
    give_up_at = time.monotonic() + timeout_s
    while time.monotonic() < give_up_at:
        assert api.poll() is None, f"the API ended with {api.returncode}"
        with suppress(OSError), closing(http.client.HTTPConnection(urlsplit(url).netloc, timeout=5)) as connection:
            connection.request("GET", "/readyz")
            if connection.getresponse().status == 200:
                return
        time.sleep(0.1)
    raise AssertionError(f"{url} was not ready within {timeout_s:g} s")
