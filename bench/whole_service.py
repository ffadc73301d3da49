"""`darkroom up` for a benchmark: everything, on a free port, with one model under one name or several."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

from tests.support.eventually import eventually

NAME = "bench/model"
CATALOG = """
[models."{name}"]
source = "{folder}"
dtype = "{dtype}"
defaults = {{ width = {side}, height = {side}, num_inference_steps = 8, guidance_scale = 0.0 }}
"""


@contextmanager
def whole_service(
    folder: Path,
    *,
    dtype: str,
    side: int,
    log: Path,
    names: Sequence[str] = (NAME,),
    options: Sequence[str] = ("--idle-exit", "300"),
    env: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[str]:
    """The address of a service that serves the model of this folder under each of these names, and nothing else.

    `options`: further words of the command line. By default its workers stay for five minutes.
    """
    with tempfile.TemporaryDirectory(prefix="dr-bench-") as own:
        catalog = Path(own) / "models.toml"
        source = folder.resolve()
        catalog.write_text("".join(CATALOG.format(name=name, folder=source, dtype=dtype, side=side) for name in names))
        words = ["up", "--port", "0", "--data", str(Path(own) / "data"), "--models", str(catalog), *options]
        with log.open("w") as told:
            service = subprocess.Popen(
                [sys.executable, "-m", "cli.main", *words],
                stdout=told,
                stderr=subprocess.STDOUT,
                env=os.environ | {"HF_HUB_OFFLINE": "1"} | dict(env),
            )
        try:
            yield _address(service, log)
        finally:
            service.send_signal(signal.SIGTERM)
            service.wait(60)


def wait_for_warm_parent(log: Path) -> None:
    """Return when the service has imported what its later workers are forked from: that takes a core for seconds."""
    eventually(lambda: "workers are forked from now on" in log.read_text(), 120)


def _address(service: subprocess.Popen[bytes], log: Path) -> str:
    while service.poll() is None:
        for line in log.read_text().splitlines():
            if "Darkroom is ready at " in line:
                return line.partition("Darkroom is ready at ")[2].split()[0]
        time.sleep(0.05)
    raise SystemExit(f"the service has ended:\n{log.read_text()}")
